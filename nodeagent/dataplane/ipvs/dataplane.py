"""The ipvs driver: Services in, messages to IPVS, ipset and the dummy link out, writing exactly what differs.

Wires the pure parts (`desired`, `state`) to `inventory`, `ensure_base`, `writer` and a kernel.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.api import DriverMetric, Held
from nodeagent.dataplane.ipvs import inventory
from nodeagent.dataplane.ipvs.desired import Desired
from nodeagent.dataplane.ipvs.drift import Drift
from nodeagent.dataplane.ipvs.ensure_base import Base
from nodeagent.dataplane.ipvs.frontends import frontends
from nodeagent.dataplane.ipvs.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.dataplane.ipvs.netlink_batch import NetlinkBatch
from nodeagent.dataplane.ipvs.objects import VirtualKey, described
from nodeagent.dataplane.ipvs.probe import try_rules
from nodeagent.dataplane.ipvs.read_back import Reading
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.dataplane.ipvs.state import State
from nodeagent.dataplane.ipvs.watch import NetlinkWatch, Watch
from nodeagent.dataplane.ipvs.writer import Writer
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Failed, Round, Sent, refused_object
from nodeagent.dataplane.read_back import Found
from nodeagent.dataplane.reconciler import Reconciler
from nodeagent.dataplane.restore_metrics import failed_restores
from nodeagent.dataplane.tracker import NODE
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable, Unsure

log = logging.getLogger(__name__)


class IpvsDataplane(Reconciler[Settings]):
    """The ipvs mode; without a kernel, on the calling thread's."""

    def __init__(
        self, kernel: Kernel | None = None, settings: Settings | None = None, watch: Watch | None = None
    ) -> None:
        self.driver = IpvsDriver(kernel, settings or Settings(), watch)
        super().__init__(self.driver)

    def held(self) -> list[Held]:
        """See `Remembering.held`; nothing of the excluded CIDRs, which are others'."""
        return frontends(self.driver.state, self.driver.base.excluded)

    def wanted(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.wanted`."""
        return self.driver.reading(frontends, services).wanted()

    def account(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.account`."""
        return self.driver.reading(frontends, services).account()

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.look`."""
        return self.driver.reading(frontends, services).look(self.driver.batch)

    def metrics(self) -> Iterator[DriverMetric]:
        """See `Measured.metrics`: what kube-proxy counts in this mode, under its name and in its words."""
        unrestored = self.driver.batch.unrestored
        yield failed_restores((family, unrestored[family]) for family in self.driver.base.families)

    def neighbours(self, come: Iterable[bytes], gone: Iterable[bytes]) -> None:
        """See `Bordering.neighbours`: such an address never goes onto the link."""
        self.driver.desired.put_neighbours(come, gone)


class IpvsDriver:
    """Implements `nodeagent.dataplane.api.Driver`. Each message stands alone: one that may be lost is `Unsure`."""

    mode = "ipvs"
    adopted = False

    def __init__(self, kernel: Kernel | None, settings: Settings, watch: Watch | None) -> None:
        self._given, self._settings = kernel, settings
        self._watch, self._silent = watch or Watch(), watch is None
        self._opened = ExitStack()

    def open(self, left: LeftOut) -> None:
        """See `Driver.open`."""
        self.kernel = self._given or NetlinkKernel()
        self._opened.callback(self.kernel.close)
        self._listen()  # before anything is read or tried
        self._opened.callback(self._watch.close)
        families = [family for family in (4, 6) if self._writable(family, left)]
        try:
            self.base = Base(families, self._settings)
        except ValueError as error:
            raise DataplaneUnavailable(f"ipvs: a CIDR of the settings: {error}: correct it") from error
        self.state = State()
        self.desired = Desired(families, self._settings, self.state)
        self.batch = NetlinkBatch(self.kernel)
        self.writer = Writer(self.desired, self.state, self.batch, self.base.keeps)
        self.drift = Drift(self.writer, self.base)

    def _writable(self, family: int, left: LeftOut) -> bool:
        """IPv4 must be; IPv6 is left out where the kernel has it not, or refuses the rules."""
        if family == 4:
            return True
        if not self.kernel.has(family):
            left.leave("this kernel has no IPv6", refused=False)
            return False
        try:
            try_rules(self.kernel, family)
        except DataplaneUnavailable as error:
            left.leave(str(error))
            return False
        return True

    def _listen(self) -> None:
        if isinstance(self.kernel, NetlinkKernel) and self._silent:
            try:
                self._watch = NetlinkWatch()
            except OSError as error:
                log.warning("ipvs: what others change will not be noticed (%s)", os.strerror(error.errno or 0))

    def close(self) -> None:
        """See `Driver.close`."""
        self._opened.close()

    def configure(self, settings: Settings) -> None:
        """See `Driver.configure`."""
        self.base.configure(settings)
        self.desired.configure(settings)

    # ------------------------------------------------------------ what is wanted

    def reading(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Reading:
        """What is read of these Services."""
        return Reading(self.desired, self.state, self.base, frontends, list(services))

    def put(self, service: ServiceForwarding) -> None:
        self.desired.put(service)

    def put_node(self, node: NodeForwarding) -> None:
        self.base.move(node.pod_cidrs)
        self.desired.put_node(node)

    def remove(self, owner: ObjectKey) -> None:
        self.desired.remove(owner)

    def owners(self) -> Iterable[ObjectKey]:
        return self.desired.owners()

    def retire(self) -> None:
        self.desired.retire()

    def pending(self) -> bool:
        """Endpoints that drain are no such thing."""
        return bool(self.desired.virtuals.pending or self.desired.elements.pending or self.writer.failed)

    def failures(self) -> Iterator[Failed]:
        for thing, why in self.writer.failed.items():
            owner = self.desired.owner(thing) or NODE
            what = described(thing) if isinstance(thing, VirtualKey) else f"an entry of {thing.set}"
            yield refused_object(owner, what, why)

    # ------------------------------------------------------------ the kernel

    def read(self) -> None:
        """See `Driver.read`."""
        try:
            self.base.forget(inventory.read(self.batch, self.state, self.base.families))
        except OSError as error:
            raise unavailable("reading the kernel", error) from error
        self.adopted = bool(self.state.virtuals or self.state.elements)
        self.desired.put_addresses(self.state.others)
        self.desired.forget()
        self.writer.forget()

    def write(self, sent: Sent, this: Round) -> None:
        """See `Driver.write`."""
        self.batch.count_in(sent)
        try:
            self.base.make(self.batch, self.state)
            self.writer.write()
            if this.complete:
                self.base.finish(self.batch)
        except OSError as error:
            raise Unsure(str(unavailable("preparing the kernel", error))) from error
        except DataplaneUnavailable as error:
            raise Unsure(f"{error}; it is retried") from error
        except KernelUnavailable as error:
            raise Unsure(str(error)) from error

    def repaired(self, *, fruitful: bool) -> None:
        self.drift.settled()

    def fileno(self) -> int:
        """Readable when another program changed an address or a link, and when the clock ticks."""
        return self._watch.fileno()

    def drifted(self) -> bool:
        """See `Driver.drifted`; on the way, endpoints without connections are let go."""
        return self.drift.judge(self._watch.heard())
