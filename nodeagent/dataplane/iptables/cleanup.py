"""Taking away what was programmed, for `--cleanup` and after a change of mode: ours, which is also kube-proxy's.

What the kubelet makes stays; KUBE-FIREWALL, which both make, stays where the kubelet shows itself in the mangle table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from contextlib import closing

from nodeagent.dataplane.iptables import naming as n
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.flavour import HINTS
from nodeagent.linux.iptables.programs import Flavour, Tools, find
from nodeagent.linux.iptables.removal import has_chain, remove_everywhere, tables_there
from nodeagent.linux.iptables.saved import Listing, listing
from nodeagent.linux.netlink.accounting import Accounts

_CHAINS = {
    n.FILTER: (n.SERVICES, n.EXTERNAL_SERVICES, n.FORWARD, n.NODE_PORTS, n.PROXY_FIREWALL, n.CANARY),
    n.NAT: (n.SERVICES, n.NODE_PORTS, n.POSTROUTING, n.MARK_MASQ, n.CANARY),
    n.MANGLE: (n.CANARY,),
}


def cleanup(
    flavours: Iterable[Flavour] = tuple(Flavour), keep: Mapping[str, Collection[str]] | None = None
) -> tuple[str, ...]:
    """Removes it from both families in this network namespace; what was there, such as "iptables-nft nat: 7 chains".

    Where the nft flavour's tables have nothing left but the kernel's own chains, they go as well. Counters go where
    neither flavour is left. `keep`: chains by table that another mode has made its own. Raises KernelUnavailable.
    """
    these = frozenset(flavours)
    found = remove_everywhere("iptables", lambda listed: chosen(listed, keep, kubelet=_has_kubelet(listed)), these)
    return (*found, *(_counters() if these == frozenset(Flavour) else ()))


def present() -> bool:
    """Whether either flavour has the chain of Services, in IPv4; false where that cannot be asked."""
    return any(_has_services(flavour) for flavour in Flavour if find(flavour, 4, "save") is not None)


def filled() -> bool:
    """Whether the chain of Services has rules, in either flavour: kube-proxy makes it before it fills it."""
    return any(_filled(flavour) for flavour in Flavour if find(flavour, 4, "save") is not None)


def _filled(flavour: Flavour) -> bool:
    if not _has_services(flavour):
        return False
    with closing(Tools(flavour)) as tools:
        return bool(listing(tools.save(4, n.NAT)).get(n.SERVICES))


def _has_services(flavour: Flavour) -> bool:
    try:
        if flavour is Flavour.NFT:
            return has_chain(4, n.NAT, n.SERVICES)
        if n.NAT not in tables_there(flavour, 4):
            return False
        with closing(Tools(flavour)) as tools:
            return n.SERVICES in listing(tools.save(4, n.NAT))
    except (KernelUnavailable, DataplaneUnavailable):
        return False


def _counters() -> list[str]:
    try:
        with closing(Accounts()) as accounts:
            return [f"counter {name}" for name in n.COUNTERS if accounts.delete(name)]
    except OSError:
        return []  # a kernel without them


def chosen(
    found: Mapping[str, Listing], keep: Mapping[str, Collection[str]] | None = None, *, kubelet: bool
) -> dict[str, list[str]]:
    """The chains of each table that are ours, those that lead to others first. `kubelet`: one runs on this machine."""
    more, kept = () if kubelet else (n.KUBELET_FIREWALL,), keep or {}
    ours = {
        table: [name for name in chains if _is_ours(table, name, (*_CHAINS[table], *more))]
        for table, chains in found.items()
    }
    return {
        t: sorted((name for name in chains if name not in kept.get(t, ())), key=_rank) for t, chains in ours.items()
    }


def _has_kubelet(found: Mapping[str, Listing]) -> bool:
    return any(hint in found.get(n.MANGLE, ()) for hint in HINTS)


def _is_ours(table: str, name: str, known: Collection[str]) -> bool:
    return name in known or (table == n.NAT and n.is_of_services(name))


def _rank(name: str) -> int:
    """Chains that lead to others go before them."""
    if n.is_of_services(name):
        return n.DESCENT.index(name[:8])
    return len(n.DESCENT) if name in (n.MARK_MASQ, n.CANARY) else -1
