"""The iptables dataplane: Services in, one restore per family and change out, with only what differs.

Wires the pure parts (`tracker`, `script`) to `delivery` and the programs. Called by the agent from one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from msgspec import structs

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.api import Figure, Held
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.delivery import Delivery, Unwritable
from nodeagent.dataplane.iptables.drift import Deaf, Watch, listen
from nodeagent.dataplane.iptables.figures import figures
from nodeagent.dataplane.iptables.flavour import detect
from nodeagent.dataplane.iptables.frontends import frontends
from nodeagent.dataplane.iptables.kinds import NFACCT, RANDOM, RECENT, REJECT, optional
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.iptables.tools import Flavour, Iptables, Refusal, Tools
from nodeagent.dataplane.iptables.tracker import Tracker
from nodeagent.dataplane.iptables.trying import lacking, unwritable
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable

_BE_LIBERAL = "net/netfilter/nf_conntrack_tcp_be_liberal"
_ROUTE_LOCALNET = "net/ipv4/conf/all/route_localnet"

log = logging.getLogger(__name__)


class IptablesDataplane:
    """Implements `nodeagent.dataplane.api.Dataplane`; without a kernel, on the calling thread's.

    `flavour` None: the one that this machine uses (`flavour.detect`).
    """

    mode = "iptables"

    def __init__(
        self,
        kernel: Iptables | None = None,
        settings: Settings | None = None,
        *,
        flavour: Flavour | None = None,
        watch: Watch | None = None,
    ) -> None:
        self._given = kernel
        self._flavour = flavour
        self._asked = settings or Settings()
        self._watch: Watch = watch or Deaf()
        self._deliveries: dict[int, Delivery] = {}
        self._lacking: dict[int, frozenset[str]] = {}  # options that the kernel refuses, by family
        self._based: set[int] = set()  # families of which something was written
        self._left = LeftOut()
        self._completed = False
        self._node: NodeForwarding | None = None
        self._no_loopback = False  # the kernel will not route it

    @property
    def flavour(self) -> Flavour:
        """Which programs are used, once started."""
        return self._kernel.flavour

    @property
    def adopted(self) -> bool:
        """Whether `start` found Services in the kernel."""
        return self._found

    def start(self) -> None:
        """Adopts what the tables hold without changing them. Raises DataplaneUnavailable."""
        if self._given is None:
            tools = Tools(self._flavour or detect())
            self._kernel: Iptables = tools
            self._watch = listen(tools)  # before anything is read
        else:
            self._kernel = self._given
        try:
            self._adopt()
        except DataplaneUnavailable:
            self.close()
            raise
        log.info("iptables: %s programs", self._kernel.flavour.value)

    def _adopt(self) -> None:
        families = [family for family in (4, 6) if self._kernel.has(family)]
        if 4 not in families:
            raise DataplaneUnavailable(
                f"iptables: iptables-{self._kernel.flavour.value}-restore and -save are not installed: "
                "install iptables or choose another proxy mode"
            )
        if 6 not in families:
            self._left.leave("no IPv6 in this kernel or no ip6tables programs")
            log.warning("iptables: no IPv6 in this kernel or no ip6tables programs, the family is left out")
        families = self._tried(families)
        try:
            for family in families:
                self._asked.local(family)
                self._deliveries[family] = Delivery(self._kernel, Tracker(family, self._settings(family)))
        except ValueError as error:
            raise DataplaneUnavailable(f"iptables: cluster CIDR: {error}: correct --cluster-cidr") from error
        try:
            self._watch.begin()
            self._read()
        except KernelUnavailable as error:
            raise DataplaneUnavailable(f"{error}: give the agent CAP_NET_ADMIN and CAP_NET_RAW here") from error
        self._found = any(tracker.tables.anything for tracker in self._trackers())

    def _tried(self, families: Iterable[int]) -> list[int]:
        """The families that can be written, and by the way what the mode goes on without."""
        found = []
        for family in families:
            try:
                refusal = unwritable(self._kernel, family)
                if refusal is None or refusal.busy:
                    self._lacking[family] = lacking(self._kernel, family)
            except KernelUnavailable as error:
                refusal = Refusal(str(error), busy=True)  # said again by whatever comes next
            if refusal is None or refusal.busy:
                found.append(family)
            elif family == 4:
                raise DataplaneUnavailable(f"iptables: IPv4 rules cannot be written ({refusal.text}): load the modules")
            else:
                self._leave_out(refusal.text)
        for name, option in optional(4).items():
            without = ", ".join(f"IPv{family}" for family in found if name in self._lacking.get(family, ()))
            if without:
                log.warning("iptables: no %s for %s: %s (%s)", name, without, option.lost, option.advice)
        return found

    def _leave_out(self, reason: str) -> None:
        """Goes on without IPv6, which the kernel will not have; IPv4 is not held back."""
        log.error("iptables: IPv6 Services are left out until a restart: %s", reason)
        self._left.leave(reason)
        self._deliveries.pop(6, None)

    def held(self) -> list[Held]:
        """See `Remembering.held`: what the shared chains have lines of."""
        return [held for tracker in self._trackers() for held in frontends(tracker.family, tracker.tables)]

    def figures(self) -> Iterable[Figure]:
        """See `Measured.figures`; no table is listed for it."""
        return figures(self._kernel, self._deliveries.values())

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`."""
        for tracker in self._trackers():
            if node is not None:
                tracker.put_node(node)
            for service in services:
                tracker.put(service)
        for service in services:
            self._left.note(service)
        if complete:
            self._retire(services)
            self._completed = True
            self._sweep()
        self._node = node or self._node
        done = self._write()
        return self._reconfigure() if not self._opened() else done

    def pending(self) -> bool:
        """True while something wanted is not in the kernel."""
        return any(delivery.pending for delivery in self._deliveries.values())

    def close(self) -> None:
        """Lets go of what listens; what was programmed stays."""
        self._kernel.close()
        self._watch.close()

    def configure(self, settings: Settings) -> Commit:
        """Takes other settings from now on, such as a node's new CIDRs; writes the chains that differ by them.

        Raises ValueError, changing nothing, for a CIDR that is none, KernelUnavailable as `apply`.
        """
        for family in self._deliveries:
            settings.local(family)
        self._asked = settings
        return self._reconfigure()

    def fileno(self) -> int:
        """Readable when somebody may have changed the tables."""
        return self._watch.fileno()

    def drifted(self) -> bool:
        """Whether somebody else changed our chains since the last repair. Call when `fileno` is readable."""
        return self._watch.drifted()

    def repair(self) -> Commit:
        """Lists the tables, compares them with what is wanted and writes what differs.

        Raises KernelUnavailable, and is to be called again then.
        """
        self._watch.begin()
        self._read()
        for tracker in self._trackers():
            tracker.suspect()
        if self._completed:
            self._sweep()
        done = self._write()
        self._watch.repaired(fruitful=bool(done.messages))
        return done

    def _settings(self, family: int) -> Settings:
        """What was asked for, as this machine has it."""
        without = self._lacking.get(family, frozenset())
        liberal = self._asked.be_liberal or bool(self._kernel.sysctl(_BE_LIBERAL))
        opened = self._asked.localhost_node_ports and not self._no_loopback
        counted = () if NFACCT in without else tuple(filter(self._kernel.account, n.COUNTERS))
        return structs.replace(
            self._asked,
            be_liberal=liberal,
            localhost_node_ports=opened,
            counted=counted,
            random_fully=self._asked.random_fully and RANDOM not in without,
            recalls=RECENT not in without,
            refuses=REJECT not in without,
        )

    def _reconfigure(self) -> Commit:
        for tracker in self._trackers():
            tracker.configure(self._settings(tracker.family))
        return self._write()

    def _opened(self) -> bool:
        """Has loopback routed where node ports answer there, once the guard against others is in (B5).

        False where the kernel will not: then node ports are to be closed on loopback.
        """
        everywhere = self._node is not None and 4 in self._node.match_all_families
        if self._no_loopback or self._node is None or not self._asked.opens_loopback(4, everywhere=everywhere):
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

    def _trackers(self) -> Iterable[Tracker]:
        return [delivery.tracker for delivery in self._deliveries.values()]

    def _read(self) -> None:
        """Takes over what the kernel holds. Raises KernelUnavailable for IPv4; IPv6 is left out where it is refused."""
        for family, delivery in list(self._deliveries.items()):
            try:
                delivery.read()
            except KernelUnavailable as error:
                if family == 4 or self._completed:
                    raise
                self._leave_out(str(error))

    def _retire(self, services: Sequence[ServiceForwarding]) -> None:
        """Everything that is not among these Services is to go."""
        kept = {service.key for service in services}
        self._left.keep(kept)
        for tracker in self._trackers():
            for owner in tracker.owners():
                if owner not in kept:
                    tracker.put(ServiceForwarding(owner))

    def _sweep(self) -> None:
        for delivery in self._deliveries.values():
            delivery.sweeping = True

    def _write(self) -> Commit:
        """Both families, also where one of them is refused as a whole."""
        refused: KernelUnavailable | None = None
        for family, delivery in list(self._deliveries.items()):
            delivery.reset()
            try:
                delivery.write()
                self._based.add(family)
            except KernelUnavailable as error:
                if isinstance(error, Unwritable) and family == 6 and not refused and family not in self._based:
                    self._leave_out(str(error))
                else:
                    refused = refused or error
        if refused is not None:
            raise refused
        return self._commit()

    def _commit(self) -> Commit:
        sent = list(self._deliveries.values())
        return Commit(
            messages=sum(one.messages for one in sent),
            elements=sum(one.lines for one in sent),
            size=sum(one.size for one in sent),
            failed=self._failures(),
        )

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not in the kernel as it should be, each once."""
        found: dict[ObjectKey, Failed] = {}
        for delivery in self._deliveries.values():
            for failed in (*delivery.failed.values(), *delivery.tracker.conflicts()):
                found.setdefault(failed.key, failed)
        for failed in self._left.failures():
            found.setdefault(failed.key, failed)
        return tuple(found.values())
