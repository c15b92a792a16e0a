"""The iptables driver: Services in, one restore per family and change out, with only what differs.

Wires the pure parts (`tracker`, `script`) to `delivery` and the programs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import ExitStack

from msgspec import structs

from deltaplane.explain import Manner, manner_of
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.api import DriverMetric, Held
from nodeagent.dataplane.iptables.abilities import Abilities
from nodeagent.dataplane.iptables.delivery import Delivery, Unwritable
from nodeagent.dataplane.iptables.drift import Watch, listen
from nodeagent.dataplane.iptables.frontends import frontends
from nodeagent.dataplane.iptables.metrics import metrics
from nodeagent.dataplane.iptables.read_back import Listed, Reading
from nodeagent.dataplane.iptables.render import check
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.iptables.tracker import Tracker
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Failed, Round, Sent
from nodeagent.dataplane.read_back import Found, joined
from nodeagent.dataplane.reconciler import Reconciler
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable, Unsure
from nodeagent.linux.iptables.flavour import detect
from nodeagent.linux.iptables.programs import Flavour, Iptables, Tools

MAIN = 4  # the family without which nothing works; the other may be left out

log = logging.getLogger(__name__)


class IptablesDataplane(Reconciler[Settings]):
    """The iptables mode; without a kernel, on the calling thread's.

    `flavour` None: the one that this machine uses (`nodeagent.linux.iptables.flavour`).
    """

    slow = True  # each commit starts a program

    def __init__(
        self,
        kernel: Iptables | None = None,
        settings: Settings | None = None,
        *,
        flavour: Flavour | None = None,
    ) -> None:
        self._iptables = IptablesDriver(kernel, settings or Settings(), flavour)
        super().__init__(self._iptables)

    @property
    def flavour(self) -> Flavour:
        """Which programs are used, once started."""
        return self._iptables.kernel.flavour

    def held(self) -> list[Held]:
        """See `Remembering.held`: what the shared chains have lines of."""
        return [held for each in self._iptables.trackers() for held in frontends(each.family, each.tables)]

    def wanted(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.wanted`."""
        return joined(reading.wanted() for reading in self._readings(frontends, services))

    def account(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.account`."""
        return joined(reading.account() for reading in self._readings(frontends, services))

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.look`: the chains in question alone."""
        kernel = self._iptables.kernel
        return joined(reading.look(Listed(kernel, reading.family)) for reading in self._readings(frontends, services))

    def _readings(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> list[Reading]:
        """By family, of those in question."""
        keys, chosen = list(frontends), list(services)
        families = {key[0] for key in keys}
        return [Reading(each, keys, chosen) for each in self._iptables.trackers() if each.family in families]

    def manner(self) -> Manner:
        """See `Mannered.manner`."""
        return self._iptables.manner()

    def metrics(self) -> Iterable[DriverMetric]:
        """See `Measured.metrics`; no table is listed for it."""
        return metrics(self._iptables.kernel, self._iptables.deliveries.values())


class IptablesDriver:
    """Implements `nodeagent.dataplane.api.Driver`."""

    mode = "iptables"

    def __init__(self, kernel: Iptables | None, settings: Settings, flavour: Flavour | None) -> None:
        self._given, self._asked, self._flavour = kernel, settings, flavour
        self._watch = Watch()
        self.deliveries: dict[int, Delivery] = {}
        self.adopted = False
        self._written: set[int] = set()  # families of which something was written
        self._node: NodeForwarding | None = None
        self._open = ExitStack()

    def open(self, left: LeftOut) -> None:
        """See `Driver.open`."""
        self._left = left
        self.kernel = self._given or self._programs()
        self._open.callback(self.kernel.close)
        self._abilities = Abilities(self.kernel)
        try:
            for family in self._families():
                self._asked.local(family)
                self.deliveries[family] = Delivery(self.kernel, Tracker(family, self._settings(family)))
        except ValueError as error:
            raise DataplaneUnavailable(f"iptables: cluster CIDR: {error}: correct --cluster-cidr") from error
        log.info("iptables: %s programs", self.kernel.flavour.value)

    def _programs(self) -> Tools:
        """The real ones; what others change is heard before anything is read."""
        flavour = self._flavour or detect()
        self._watch = listen(flavour)
        return Tools(flavour, self._watch)

    def _families(self) -> list[int]:
        """Those that can be written."""
        if not self.kernel.has(MAIN):
            raise DataplaneUnavailable(
                f"iptables: iptables-{self.kernel.flavour.value}-restore and -save are not installed: "
                "install iptables or choose another proxy mode"
            )
        if reason := self._abilities.refusal(MAIN):
            raise DataplaneUnavailable(f"iptables: IPv4 rules cannot be written ({reason}): load the modules")
        families = [MAIN]
        if not self.kernel.has(6):
            self._left.leave("no IPv6 in this kernel or no ip6tables programs", refused=False)
        elif reason := self._abilities.refusal(6):
            self._leave_out(reason)
        else:
            families.append(6)
        self._abilities.warn(families)
        return families

    def _leave_out(self, reason: str) -> None:
        """Goes on without IPv6, which the kernel will not have; IPv4 is not held back."""
        self._left.leave(reason)
        self.deliveries.pop(6, None)

    def close(self) -> None:
        """See `Driver.close`."""
        self._watch.close()
        self._open.close()

    def configure(self, settings: Settings) -> None:
        """See `Driver.configure`."""
        for family in self.deliveries:
            settings.local(family)
        self._asked = settings
        self._reconfigure()

    def _reconfigure(self) -> None:
        for tracker in self.trackers():
            tracker.configure(self._settings(tracker.family))

    def _settings(self, family: int) -> Settings:
        return self._abilities.settings(self._asked, family)

    # ------------------------------------------------------------ what is wanted

    def trackers(self) -> list[Tracker]:
        return [delivery.tracker for delivery in self.deliveries.values()]

    def manner(self) -> Manner:
        """See `Mannered.manner`: by the settings of IPv4, where the two families differ."""
        settings, node = self.deliveries[MAIN].tracker.settings, self._node or NodeForwarding()
        loopback = settings.opens_loopback(MAIN, everywhere=MAIN in node.match_all_families)
        return structs.replace(manner_of(self.mode), loopback=loopback, rejects=settings.refuses)

    def put(self, service: ServiceForwarding) -> None:
        trackers = [tracker for tracker in self.trackers() if tracker.wanted.get(service.key) != service]
        if trackers:
            check(service, self.deliveries)
        for tracker in trackers:
            tracker.put(service)

    def put_node(self, node: NodeForwarding) -> None:
        for tracker in self.trackers():
            tracker.check_node(node)
        for tracker in self.trackers():
            tracker.put_node(node)
        self._node = node

    def remove(self, owner: ObjectKey) -> None:
        for tracker in self.trackers():
            tracker.put(ServiceForwarding(owner))

    def owners(self) -> Iterable[ObjectKey]:
        return {owner for tracker in self.trackers() for owner in tracker.owners()}

    def retire(self) -> None:
        for delivery in self.deliveries.values():
            delivery.retire()

    def pending(self) -> bool:
        return any(delivery.pending for delivery in self.deliveries.values())

    def failures(self) -> Iterator[Failed]:
        for delivery in self.deliveries.values():
            yield from delivery.failed.values()

    # ------------------------------------------------------------ the kernel

    def read(self) -> None:
        """See `Driver.read`. IPv6 is left out where the kernel refuses it before anything was written."""
        self._watch.begin()
        for family, delivery in list(self.deliveries.items()):
            try:
                delivery.read()
            except KernelUnavailable as error:
                if family == MAIN or family in self._written:
                    raise
                self._leave_out(str(error))
        self.adopted = any(tracker.tables.anything for tracker in self.trackers())

    def write(self, sent: Sent, this: Round) -> None:
        """See `Driver.write`; where loopback cannot be routed, node ports are closed there at once."""
        self._write(sent, this)
        if not self._abilities.opened(self._asked, self._node):
            self._reconfigure()
            self._write(sent, this)

    def _write(self, sent: Sent, this: Round) -> None:
        """Both families, also where one of them is refused as a whole."""
        refused: list[KernelUnavailable] = []
        for family, delivery in list(self.deliveries.items()):
            try:
                delivery.write(sent, this)
                self._written.add(family)
            except Unwritable as error:
                if family == MAIN or refused or family in self._written:
                    refused.append(error)
                else:
                    self._leave_out(str(error))
            except KernelUnavailable as error:
                refused.append(error)
        if refused:
            raise next((error for error in refused if isinstance(error, Unsure)), refused[0])

    def repaired(self, *, fruitful: bool) -> None:
        self._watch.repaired(fruitful=fruitful)

    def fileno(self) -> int:
        return self._watch.fileno()

    def drifted(self) -> bool:
        return self._watch.drifted()
