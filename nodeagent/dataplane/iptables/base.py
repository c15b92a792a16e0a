"""What is there whatever the Services are: jumps from the kernel's own chains, masquerading, forwarding, canaries.

Pure; called by `tracker`. Follows kube-proxy 1.36 (row ids are those of docs/behaviour.md).
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from typing import NamedTuple

from deltaplane.forwarding import NodeForwarding
from deltaplane.model import WIDTHS
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.rules import LAST, LOCAL_DESTINATION, comment, counted, single
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.linux.iptables.saved import Line

SHARED = (
    (n.FILTER, n.SERVICES),
    (n.FILTER, n.EXTERNAL_SERVICES),
    (n.FILTER, n.NODE_PORTS),
    (n.FILTER, n.PROXY_FIREWALL),
    (n.FILTER, n.KUBELET_FIREWALL),
    (n.NAT, n.SERVICES),
    (n.NAT, n.NODE_PORTS),
)
"""Chains in which each object has lines of its own."""

_NEW = "-m conntrack --ctstate NEW "
_JUMPS = (
    (n.FILTER, "INPUT", n.EXTERNAL_SERVICES, _NEW, "kubernetes externally-visible service portals"),
    (n.FILTER, "FORWARD", n.EXTERNAL_SERVICES, _NEW, "kubernetes externally-visible service portals"),
    (n.FILTER, "INPUT", n.NODE_PORTS, "", "kubernetes health check service ports"),
    (n.FILTER, "FORWARD", n.SERVICES, _NEW, "kubernetes service portals"),
    (n.FILTER, "OUTPUT", n.SERVICES, _NEW, "kubernetes service portals"),
    (n.FILTER, "FORWARD", n.FORWARD, "", "kubernetes forwarding rules"),
    (n.FILTER, "INPUT", n.PROXY_FIREWALL, _NEW, "kubernetes load balancer firewall"),
    (n.FILTER, "OUTPUT", n.PROXY_FIREWALL, _NEW, "kubernetes load balancer firewall"),
    (n.FILTER, "FORWARD", n.PROXY_FIREWALL, _NEW, "kubernetes load balancer firewall"),
    (n.NAT, "OUTPUT", n.SERVICES, "", "kubernetes service portals"),
    (n.NAT, "PREROUTING", n.SERVICES, "", "kubernetes service portals"),
    (n.NAT, "POSTROUTING", n.POSTROUTING, "", "kubernetes postrouting rules"),
)
HOOKS = tuple(Line(table, hook, f"{state}{comment(said)}-j {to}") for table, hook, to, state, said in _JUMPS)
"""Jumps from the kernel's chains, each put before what is there."""

KUBELETS = tuple(Line(n.FILTER, hook, f"-j {n.KUBELET_FIREWALL}") for hook in ("INPUT", "OUTPUT"))
"""Jumps that the kubelet makes too: made, never removed."""


class Base(NamedTuple):
    """Everything but the Services. `chains` are written whole, lines are put at the end of a shared chain."""

    chains: dict[tuple[str, str], tuple[str, ...]]
    lines: tuple[Line, ...]
    node_ports: tuple[Line, ...] | None  # jumps to the node ports, last in their chain; None: not known yet


def base(family: int, settings: Settings, node: NodeForwarding | None) -> Base:
    """Of one family. Raises ValueError for a network in the settings that is none."""
    return Base(
        chains=dict(_chains(settings)),
        lines=tuple(_guards(family, settings, node)),
        node_ports=None if node is None else tuple(_node_ports(family, settings, node)),
    )


def _chains(settings: Settings) -> Iterator[tuple[tuple[str, str], tuple[str, ...]]]:
    mark = f"{settings.mark:#x}"
    fully = " --random-fully" if settings.random_fully else ""
    yield (
        (n.NAT, n.POSTROUTING),
        (
            f"-m mark ! --mark {mark}/{mark} -j RETURN",
            f"-j MARK --set-xmark {mark}/0x0",
            f"{comment('kubernetes service traffic requiring SNAT')}-j MASQUERADE{fully}",
        ),
    )
    yield (n.NAT, n.MARK_MASQ), (f"-j MARK --set-xmark {mark}/{mark}",)
    yield (n.FILTER, n.FORWARD), tuple(_forwarding(settings))
    yield from (((table, n.CANARY), ()) for table in n.TABLES)


def _forwarding(settings: Settings) -> Iterator[str]:
    """I6."""
    if not settings.be_liberal:
        counting = counted(n.INVALID_COUNTER) if n.INVALID_COUNTER in settings.counted else ""
        yield f"-m conntrack --ctstate INVALID {counting}-j DROP"
    yield f"{comment('kubernetes forwarding rules')}-m mark --mark {settings.mark:#x}/{settings.mark:#x} -j ACCEPT"
    yield f"{comment('kubernetes forwarding conntrack rule')}-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"


def _guards(family: int, settings: Settings, node: NodeForwarding | None) -> Iterator[Line]:
    """Where loopback is routed, others must not reach what listens there (CVE-2020-8558)."""
    if node is not None and settings.opens_loopback(family, everywhere=family in node.match_all_families):
        yield loopback_guard()


def loopback_guard() -> Line:
    """The rule itself."""
    said = comment("block incoming localnet connections")
    guard = f"! -s 127.0.0.0/8 -d 127.0.0.0/8 {said}-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"
    return Line(n.FILTER, n.KUBELET_FIREWALL, guard)


def _node_ports(family: int, settings: Settings, node: NodeForwarding) -> Iterator[Line]:
    """Where node ports answer (B1-B8)."""
    said = comment(LAST)
    loopback = settings.opens_loopback(family, everywhere=family in node.match_all_families)
    if family in node.match_all_families:
        closed = "" if loopback else f"! -d {'127.0.0.0/8' if family == 4 else '::1/128'} "
        yield Line(n.NAT, n.SERVICES, f"{closed}{said}{LOCAL_DESTINATION}-j {n.NODE_PORTS}")
        return
    addresses = [address for address in node.node_port_addresses if len(address) == WIDTHS[family]]
    if loopback:
        addresses.append(ip_address("127.0.0.1").packed)
    yield from (Line(n.NAT, n.SERVICES, f"-d {single(address)} {said}-j {n.NODE_PORTS}") for address in addresses)
