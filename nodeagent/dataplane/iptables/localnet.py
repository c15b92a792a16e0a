"""Loopback routed for node ports (B5), by who may write that switch, before an agent starts that may not.

A guard comes first, the same that the agent writes: without it, everybody on the link reaches what listens on
127.0.0.1 (CVE-2020-8558). The agent finds switch and guard as it would have made them. Called for `--init-only`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.base import KUBELETS, loopback_guard
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.linux.iptables.programs import Iptables
from nodeagent.linux.iptables.saved import Listing, listing

SWITCH = Path("proc/sys/net/ipv4/conf/all/route_localnet")

log = logging.getLogger(__name__)


def route(kernel: Iptables, settings: Settings, root: Path) -> str:
    """Guard, then switch; why not, or nothing. `root`: below which /proc/sys can be written.

    Raises `KernelUnavailable` where the rules cannot be listed.
    """
    if not settings.opens_loopback(4, everywhere=not settings.node_port_networks):
        return ""
    text = guarding(listing(kernel.save(4, n.FILTER)))
    refusal = kernel.restore(4, text) if text else None
    if refusal is not None:
        return f"its guard cannot be written ({refusal.text})"
    return _switched(root / SWITCH)


def guarding(found: Listing) -> str:
    """What is missing of the guard in this listing of the table `filter`, for iptables-restore; empty: nothing."""
    missing = list(_missing(found))
    return "\n".join([f"*{n.FILTER}", *missing, "COMMIT", ""]) if missing else ""


def _missing(found: Listing) -> Iterator[str]:
    chain, guard = n.KUBELET_FIREWALL, loopback_guard().rule
    if chain not in found:
        yield f":{chain} - [0:0]"  # a chain that is there would lose its rules
    if guard not in found.get(chain, ()):
        yield f"-A {chain} {guard}"
    for jump in KUBELETS:
        if jump.rule not in found.get(jump.chain, ()):
            yield f"-I {jump.chain} {jump.rule}"


def _switched(path: Path) -> str:
    try:
        if path.read_text().strip() != "1":
            path.write_text("1\n")
            log.info("iptables: route_localnet=1, so that node ports answer on loopback")
    except OSError as error:
        return f"{path} cannot be written ({error.strerror})"
    return ""
