"""The ipvs dataplane: Services in, messages to IPVS, ipset and the dummy link out, writing exactly what differs.

Wires the pure parts (`tracker`, `state`) to `inventory`, `footing`, `writer` and a kernel. Called from one thread.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.api import Figure, Held
from nodeagent.dataplane.iptables.figures import failed_restores
from nodeagent.dataplane.ipvs import inventory
from nodeagent.dataplane.ipvs.drift import Drift
from nodeagent.dataplane.ipvs.ensure_base import Footing
from nodeagent.dataplane.ipvs.frontends import frontends
from nodeagent.dataplane.ipvs.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.dataplane.ipvs.names import OUTSIDE_MARK
from nodeagent.dataplane.ipvs.netlink_batch import Courier
from nodeagent.dataplane.ipvs.objects import BY_MARK, VirtualKey, described
from nodeagent.dataplane.ipvs.probe import try_rules
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.state import State, excluded
from nodeagent.dataplane.ipvs.tracker import Tracker
from nodeagent.dataplane.ipvs.watch import NetlinkWatch, Silence, Watch
from nodeagent.dataplane.ipvs.writer import Drifted, Writer
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable

log = logging.getLogger(__name__)

NODE = ObjectKey(Kind.NODE, "", "")


class IpvsDataplane:
    """Implements `nodeagent.dataplane.api.Dataplane`; without a kernel, on the calling thread's."""

    mode = "ipvs"

    def __init__(
        self, kernel: Kernel | None = None, settings: Settings | None = None, watch: Watch | None = None
    ) -> None:
        self._given = kernel
        self._settings = settings or Settings()
        self._watch: Watch = watch or Silence()
        self._invalid: dict[ObjectKey, Failed] = {}
        self._completed = False
        self._left = LeftOut()
        self._unsure = False  # a write was cut off: the kernel is to be read again
        self._adopted = False

    @property
    def adopted(self) -> bool:
        """Whether `start` found anything of ours in the kernel."""
        return self._adopted

    def start(self) -> None:
        """Adopts what is ours without changing it. Raises DataplaneUnavailable."""
        self._kernel = self._given or NetlinkKernel()
        try:
            self._begin()
        except DataplaneUnavailable:
            self.close()
            raise
        except OSError as error:
            self.close()
            raise DataplaneUnavailable(str(unavailable("reading the kernel", error))) from error

    def _begin(self) -> None:
        self._listen()  # before anything is read or tried
        families = [family for family in (4, 6) if self._writable(family)]
        try:
            self._footing = Footing(families, self._settings)
        except ValueError as error:
            raise DataplaneUnavailable(f"ipvs: a CIDR of the settings: {error}: correct it") from error
        self._tracker = Tracker(families, self._settings)
        self._state = State()
        self._courier = Courier(self._kernel)
        self._writer = Writer(self._tracker, self._state, self._courier)
        self._writer.keeps = lambda key: excluded(key, self._footing.excluded)
        self._drift = Drift(self._writer, self._footing)
        self._read()
        self._adopted = bool(self._state.virtuals or self._state.elements)

    def _writable(self, family: int) -> bool:
        """IPv4 must be; IPv6 is left out where the kernel has it not, or refuses the rules."""
        if family == 4:
            return True
        if not self._kernel.has(family):
            self._left.leave("this kernel has no IPv6")
            log.warning("ipvs: this kernel has no IPv6, the family is left out")
            return False
        try:
            try_rules(self._kernel, family)
        except DataplaneUnavailable as error:
            self._left.leave(str(error))
            log.error("ipvs: IPv6 Services are left out until a restart: %s", error)  # noqa: TRY400 - one line
            return False
        return True

    def _listen(self) -> None:
        if isinstance(self._kernel, NetlinkKernel) and isinstance(self._watch, Silence):
            try:
                self._watch = NetlinkWatch()
            except OSError as error:
                log.warning("ipvs: what others change will not be noticed (%s)", os.strerror(error.errno or 0))

    def held(self) -> list[Held]:
        """See `Remembering.held`; nothing of the excluded CIDRs, which are others'."""
        return frontends(self._state, self._footing.excluded)

    def figures(self) -> Iterator[Figure]:
        """See `Measured.figures`: what kube-proxy counts in this mode, under its name and in its words."""
        yield failed_restores((family, self._courier.unrestored[family]) for family in self._footing.families)

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`."""
        self._courier.reset()
        if node is not None:
            self._take_node(node)
        self._take(services)
        if complete:
            self._retire(services)
        self._write(again=self._unsure)
        return self._commit()

    def neighbours(self, come: Iterable[bytes], gone: Iterable[bytes]) -> None:
        """See `Bordering.neighbours`: such an address never goes onto the link."""
        self._tracker.put_neighbours(come, gone)

    def repair(self) -> Commit:
        """Reads the kernel again and writes what differs. Raises as `apply`."""
        self._courier.reset()
        self._write(again=True)
        self._drift.settled()
        return self._commit()

    def configure(self, settings: Settings) -> Commit:
        """Takes other settings from now on, such as a node's new CIDRs. Raises ValueError, changing nothing."""
        self._footing = Footing(self._footing.families, settings, self._footing.pod_cidrs)
        self._drift.footing = self._footing
        self._settings = settings
        self._tracker.configure(settings)
        return self.repair()

    def pending(self) -> bool:
        """True while something wanted is not in the kernel; endpoints that drain are no such thing."""
        tracker = self._tracker
        return bool(tracker.dirty or tracker.dirty_elements or self._writer.failed or self._invalid or self._unsure)

    def fileno(self) -> int:
        """Readable when somebody changed an address or a link, and when the clock ticks."""
        return self._watch.fileno()

    def drifted(self) -> bool:
        """Whether somebody else changed what is ours; on the way, endpoints without connections are let go."""
        self._courier.reset()
        heard = self._watch.heard()
        return self._drift.judge(heard)

    def close(self) -> None:
        """Closes the sockets."""
        self._kernel.close()
        self._watch.close()

    # ------------------------------------------------------------ wishes

    def _take_node(self, node: NodeForwarding) -> None:
        self._tracker.put_node(node)
        self._invalid.pop(NODE, None)
        try:
            self._footing.move(node.pod_cidrs)
        except ValueError as error:
            self._invalid[NODE] = Failed(NODE, "INVALID_OBJECT", f"pod CIDRs: {error}: correct them")

    def _take(self, services: Iterable[ServiceForwarding]) -> None:
        """Puts what is wanted into the tracker; what no set could hold is set aside and its last form stays."""
        for service in services:
            self._invalid.pop(service.key, None)
            try:
                self._tracker.put(service)
                self._left.note(service)
            except (ValueError, OverflowError, KeyError) as error:
                self._invalid[service.key] = Failed(service.key, "INVALID_OBJECT", f"{service.key}: {error}")

    def _retire(self, services: Sequence[ServiceForwarding]) -> None:
        """Everything that is not wanted by these Services is to go."""
        self._completed = True
        kept = {service.key for service in services}
        self._left.keep(kept)
        for owner in self._tracker.owners():
            if owner not in kept:
                self._tracker.remove(owner)
        for owner in self._invalid.keys() - kept - {NODE}:
            del self._invalid[owner]
        self._retire_adopted()

    def _retire_adopted(self) -> None:
        """What the kernel has and nobody wants is to go."""
        tracker, state = self._tracker, self._state
        marked = set(state.marks.values())
        for key in state.virtuals:
            unknown = key.port not in marked if key.protocol == BY_MARK else tracker.wanted(key) is None
            if unknown:
                tracker.dirty.setdefault(key)
        tracker.dirty.update(dict.fromkeys(key for key in state.marks if tracker.wanted(key) is None))
        superfluous = (e for e in state.elements if e.set != OUTSIDE_MARK and not tracker.needs(e))
        tracker.dirty_elements.update(dict.fromkeys(superfluous))

    # ------------------------------------------------------------ the kernel

    def _read(self) -> None:
        """Takes over what the kernel holds; everything wanted may differ from it. Raises OSError."""
        self._footing.found = inventory.read(self._courier, self._state, self._footing.families)
        self._footing.forget()
        self._tracker.put_addresses(self._state.others)
        self._tracker.dirty.update(dict.fromkeys(self._tracker.keys()))
        self._tracker.dirty_elements.update(dict.fromkeys(self._tracker.needed()))
        self._writer.forget()
        if self._completed:
            self._retire_adopted()

    def _write(self, *, again: bool) -> None:
        """Brings the kernel to what is wanted; where it contradicts us, reads it again and tries once more."""
        self._unsure = True
        try:
            self._once(again=again)
        except Drifted:
            log.warning("ipvs: somebody else changed what is ours, reading it again")
            try:
                self._once(again=True)
            except Drifted as error:
                raise KernelUnavailable("ipvs: somebody else keeps changing what is ours; it is retried") from error
        self._unsure = False

    def _once(self, *, again: bool) -> None:
        try:
            if again:
                self._read()
            self._footing.make(self._courier, self._state)
        except OSError as error:
            raise unavailable("preparing the kernel", error) from error
        except DataplaneUnavailable as error:
            raise KernelUnavailable(f"{error}; it is retried") from error
        self._writer.write()
        if self._completed:
            try:
                self._footing.finish(self._courier)
            except OSError as error:
                raise unavailable("writing the rules", error) from error

    def _commit(self) -> Commit:
        sent = self._courier
        failed: dict[ObjectKey, Failed] = {}
        for found in (*self._invalid.values(), *self._refused(), *self._conflicts(), *self._left.failures()):
            failed.setdefault(found.key, found)
        return Commit(messages=sent.messages, elements=sent.elements, size=sent.size, failed=tuple(failed.values()))

    def _refused(self) -> Iterator[Failed]:
        for thing, why in self._writer.failed.items():
            if isinstance(thing, VirtualKey):
                owner, what = self._tracker.owner(thing), described(thing)
            else:
                owner, what = self._tracker.needer(thing), f"an entry of {thing.set}"
            text = f"{owner or NODE}: the kernel refused {what}: {why}; tried again with the next change"
            yield Failed(owner or NODE, "KERNEL_REJECTED", text)

    def _conflicts(self) -> Iterator[Failed]:
        for key, losers in self._tracker.conflicts.items():
            for loser in losers:
                text = f"{loser}: {described(key)} belongs to {self._tracker.owner(key)}: change one of them"
                yield Failed(loser, "CONFLICT", text)
