"""What the mode goes on without on this machine: what its kernel refuses or has set otherwise. Asked by `dataplane`."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from msgspec import structs

from deltaplane.forwarding import NodeForwarding
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.kinds import NFACCT, RANDOM, RECENT, REJECT, lacking, optional, unwritable
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.iptables.programs import Iptables

_BE_LIBERAL = "net/netfilter/nf_conntrack_tcp_be_liberal"
_ROUTE_LOCALNET = "net/ipv4/conf/all/route_localnet"

log = logging.getLogger(__name__)


class Abilities:
    """Of one kernel, by family."""

    def __init__(self, kernel: Iptables) -> None:
        self._kernel = kernel
        self._lacking: dict[int, frozenset[str]] = {}  # options that the kernel refuses
        self._no_loopback = False  # the kernel will not route it

    def refusal(self, family: int) -> str:
        """Why rules of this family cannot be written; empty: they can, or the kernel is busy. Tries the options too."""
        try:
            refusal = unwritable(self._kernel, family)
            if refusal is not None and not refusal.busy:
                return refusal.text
            self._lacking[family] = lacking(self._kernel, family)
        except KernelUnavailable:
            pass  # said again by whatever comes next
        return ""

    def warn(self, families: Iterable[int]) -> None:
        """Says what these families go on without."""
        for name, option in optional(4).items():
            without = ", ".join(f"IPv{family}" for family in families if name in self._lacking.get(family, ()))
            if without:
                log.warning("iptables: no %s for %s: %s (%s)", name, without, option.lost, option.advice)

    def settings(self, asked: Settings, family: int) -> Settings:
        """What was asked for, as this machine has it."""
        without = self._lacking.get(family, frozenset())
        counted = () if NFACCT in without else tuple(filter(self._kernel.account, n.COUNTERS))
        return structs.replace(
            asked,
            be_liberal=asked.be_liberal or bool(self._kernel.sysctl(_BE_LIBERAL)),
            localhost_node_ports=asked.localhost_node_ports and not self._no_loopback,
            counted=counted,
            random_fully=asked.random_fully and RANDOM not in without,
            recalls=RECENT not in without,
            refuses=REJECT not in without,
        )

    def opened(self, asked: Settings, node: NodeForwarding | None) -> bool:
        """Has loopback routed where node ports answer there, once the guard against others is in (B5).

        False where the kernel will not: then node ports are to be closed on loopback, as `settings` says from now on.
        """
        everywhere = node is not None and 4 in node.match_all_families
        if self._no_loopback or node is None or not asked.opens_loopback(4, everywhere=everywhere):
            return True
        if self._kernel.sysctl(_ROUTE_LOCALNET) == 1:
            return True
        reason = self._kernel.set_sysctl(_ROUTE_LOCALNET, 1)
        if not reason:
            log.info("iptables: %s=1, so that node ports answer on loopback", _ROUTE_LOCALNET)
            return True
        self._no_loopback = True
        log.warning("iptables: node ports do not answer on loopback: %s=1 failed (%s)", _ROUTE_LOCALNET, reason)
        return False
