"""What must be there before the first Service: the link, the sets, the rules, the kernel's settings. Made when missing.

Called by `dataplane` before each write; does nothing once it has seen that all is there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from nodeagent.dataplane.ipvs import inventory, rules
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.inventory import Found
from nodeagent.dataplane.ipvs.kernel import Channel, Kernel, NetlinkKernel
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch, Order, reason
from nodeagent.dataplane.ipvs.objects import VirtualKey
from nodeagent.dataplane.ipvs.release import resume
from nodeagent.dataplane.ipvs.rule_changes import difference, is_another_modes
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.state import State, excluded
from nodeagent.node.sysctl import Setting, make

log = logging.getLogger(__name__)

_V4 = "proc/sys/net/ipv4"
_REUSE_IS_FINE = (5, 9)  # since this version a reused port of a client finds an endpoint that is there (L9)


class Base:
    """For these families and settings. Raises ValueError for a CIDR that is none."""

    def __init__(self, families: Iterable[int], settings: Settings) -> None:
        self.families = tuple(families)
        self.pod_cidrs: tuple[str, ...] = ()
        self.configure(settings)
        self._found = Found()
        self._settled = False
        self._moved = False  # the pod CIDRs are others than those of the rules
        self._late: list[int] = []  # families whose rules come last

    def configure(self, settings: Settings) -> None:
        """Other settings from now on; a reading follows. Raises ValueError, changing nothing."""
        wanted = {family: rules.tables(family, settings, self.pod_cidrs) for family in self.families}
        self.excluded = settings.excluded()
        self.settings, self.wanted = settings, wanted

    def keeps(self, key: VirtualKey) -> bool:
        """Whether a virtual server is never to be deleted."""
        return excluded(key, self.excluded)

    def move(self, pod_cidrs: tuple[str, ...]) -> None:
        """The Node has these pod CIDRs now; `make` writes the chains that name them. Raises ValueError."""
        if pod_cidrs != self.pod_cidrs:
            self.wanted = {family: rules.tables(family, self.settings, pod_cidrs) for family in self.families}
            self.pod_cidrs = pod_cidrs
            self._moved = True

    def forget(self, found: Found) -> None:
        """All of it is to be looked at again; `found` is what a reading brought."""
        self._found, self._settled = found, False
        self._late = []

    def make(self, batch: NetlinkBatch, state: State) -> None:
        """All of it, but rules that would take traffic from another mode. Raises as `finish`, DataplaneUnavailable."""
        if self._settled and not self._moved:
            return
        if not self._settled:
            self._make(batch, state)
        self._rules(batch)
        self._settled, self._moved = True, False

    def _make(self, batch: NetlinkBatch, state: State) -> None:
        inventory.make(batch, state, self._found)
        resume(batch, state)
        if isinstance(batch.kernel, NetlinkKernel):
            make(sysctls(self.settings))
        self._timeouts(batch)

    def _rules(self, batch: NetlinkBatch) -> None:
        for family in self.families:
            saved = batch.kernel.save(family)
            text = difference(self.wanted[family], saved)
            if text and is_another_modes(saved):
                self._late = [*dict.fromkeys((*self._late, family))]
            elif text:
                self._restore(batch, family, text)

    def finish(self, batch: NetlinkBatch) -> None:
        """Once all Services are in, the rules that take over from another mode: until then that one serves them.

        Where there is none, rules come first: a connection that came before them would not be masqueraded, for good.
        Raises KernelUnavailable, OSError.
        """
        while self._late:
            self._restore(batch, self._late[-1], self.lacking(batch.kernel, self._late[-1]))
            self._late.pop()

    def _restore(self, batch: NetlinkBatch, family: int, text: str) -> None:
        batch.restore(family, text)
        log.info("ipvs: rules of IPv%d written", family)

    def lacking(self, kernel: Kernel, family: int) -> str:
        """What is to be restored so that the rules are there; empty: they are. Raises OSError."""
        return difference(self.wanted[family], kernel.save(family))

    def _timeouts(self, batch: NetlinkBatch) -> None:
        wanted = self.settings.timeouts
        if not any(wanted):
            return
        answer = next(batch.ask(Channel.IPVS, Order(codec.GET_CONFIG, b""), listing=False))
        there = codec.read_timeouts(answer)
        if any(value not in (0, found) for value, found in zip(wanted, there, strict=True)):
            for code in batch.send(Channel.IPVS, [Order(codec.SET_CONFIG, codec.timeouts(wanted))]).values():
                log.warning("ipvs: timeouts %s not set: %s", wanted, reason(code))


def sysctls(settings: Settings) -> Iterator[Setting]:
    """What the mode needs of the kernel's settings (L10)."""
    yield Setting(f"{_V4}/ip_forward", 1)
    for name in ("conntrack", "expire_nodest_conn", "expire_quiescent_template"):
        yield Setting(f"{_V4}/vs/{name}", 1)
    if _version(os.uname().release) < _REUSE_IS_FINE and Path("/", _V4, "vs/conn_reuse_mode").exists():
        yield Setting(f"{_V4}/vs/conn_reuse_mode", 0)
    if settings.strict_arp:
        yield Setting(f"{_V4}/conf/all/arp_ignore", 1)
        yield Setting(f"{_V4}/conf/all/arp_announce", 2)


def _version(release: str) -> tuple[int, int]:
    first, _, rest = release.partition(".")
    second = rest.partition(".")[0]
    return (int(first), int(second)) if first.isdigit() and second.isdigit() else _REUSE_IS_FINE
