"""The userspace driver: Services in, listeners and redirects out, touching exactly what differs.

Joins the pure parts (`plan`, `tracker`) with the proxy and a way to redirect.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack

from msgspec import structs

from deltaplane.explain import Manner, Refused, manner_of
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.api import DriverMetric
from nodeagent.dataplane.left_out import LeftOut
from nodeagent.dataplane.outcome import Failed, Round, Sent
from nodeagent.dataplane.read_back import Found
from nodeagent.dataplane.reconciler import Reconciler
from nodeagent.dataplane.set_members import node_members
from nodeagent.dataplane.tracker import NODE
from nodeagent.dataplane.userspace.choosing import open_redirects
from nodeagent.dataplane.userspace.listener_manager import ListenerManager
from nodeagent.dataplane.userspace.metrics import metrics
from nodeagent.dataplane.userspace.plan import Plan, plan
from nodeagent.dataplane.userspace.proxy import Count, Proxy
from nodeagent.dataplane.userspace.read_back import Reading
from nodeagent.dataplane.userspace.redirects import Redirects, Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.stale import StaleFlows
from nodeagent.dataplane.userspace.tracker import Placement, Slots, leads
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable

log = logging.getLogger(__name__)

CALM = 10  # looks of `superseded`
_NOTHING = Plan({}, {}, ())


class UserspaceDataplane(Reconciler[Settings]):
    """The userspace mode.

    Without `redirects`, in the network namespace of the thread that calls `start`; its listeners are there always.
    """

    slow = True  # listeners are another thread's, and redirects may be a program's

    def __init__(self, settings: Settings | None = None, redirects: Redirects | None = None) -> None:
        self.driver = UserspaceDriver(settings or Settings(), redirects)
        self._calm = 0  # looks in a row that found nothing
        self._seen: Mapping[bytes, Placement] | None = None  # what the last look found; None: what the driver wrote
        super().__init__(self.driver)

    def superseded(self) -> bool:
        """Whether no redirect leads to this process any more, and no connection goes through the proxy.

        For some looks in a row: who was redirected before may be on the way still, with its handshake half done.
        """
        redirects, written = self.driver.redirects, self.driver.slots.frontends.actual
        if redirects.fileno() < 0 or redirects.drifted():
            try:
                self._seen = redirects.read()
            except DataplaneUnavailable:
                return False
        seen = written if self._seen is None else self._seen
        led = any(seen.get(slot) == placement for slot, placement in written.items() if leads(placement))
        self._calm = 0 if led or self.count().connections else self._calm + 1
        return self._calm >= CALM

    def count(self) -> Count:
        """How much goes through the proxy at the moment."""
        return self.driver.proxy.count()

    def wanted(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.wanted`."""
        return self.driver.reading(frontends, services).wanted()

    def account(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.account`."""
        return self.driver.reading(frontends, services).account()

    def look(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Found:
        """See `Readable.look`: the redirects in question alone, and what their listeners were told."""
        return self.driver.reading(frontends, services).look(self.driver.redirects.standing)

    def manner(self) -> Manner:
        """See `Mannered.manner`: redirects by iptables know addresses and ports of Services only (F5, F6)."""
        usual = manner_of(self.mode)
        if self.driver.redirects.kind == "nft":
            return usual
        return structs.replace(usual, refused=Refused.NONE, drops_unallocated=False)

    def metrics(self) -> Iterable[DriverMetric]:
        """See `Measured.metrics`."""
        return metrics(self.count())


class UserspaceDriver:
    """Implements `nodeagent.dataplane.api.Driver`."""

    mode = "userspace"
    adopted = False  # redirects that `read` found lead nowhere until this process listens, so it must not wait

    def __init__(self, settings: Settings, redirects: Redirects | None) -> None:
        self._settings, self._given = settings, redirects
        self._opened = ExitStack()
        self.slots = Slots()
        self._plans: dict[ObjectKey, Plan] = {}
        self._touched: dict[ObjectKey, None] = {}  # whose plans the listeners do not know yet
        self._unsupported: dict[ObjectKey, Failed] = {}  # never pending: they never will be
        self._refused: dict[bytes, Failed] = {}  # by slot

    def open(self, left: LeftOut) -> None:
        """See `Driver.open`."""
        self.proxy = Proxy(self._settings)
        self._opened.callback(self.proxy.close)
        self.redirects = self._given or open_redirects(self._settings)
        self._opened.callback(self.redirects.close)
        if 6 not in self.redirects.families:
            left.leave("redirects of IPv6 are not to be had", refused=False)
        self._stale = StaleFlows(self._tracked_flows())
        self._listeners = ListenerManager(self.proxy, self.redirects.place)
        self.proxy.start()
        log.info("userspace: redirects by %s", self.redirects.kind)

    def _tracked_flows(self) -> NetlinkTable | None:
        try:
            table = NetlinkTable()
        except KernelUnavailable as error:
            log.warning("userspace: UDP clients of deleted Services will not be noticed: %s", error)
            return None
        self._opened.callback(table.close)
        return table

    def close(self) -> None:
        """Ends the proxy, and every connection through it; redirects stay."""
        self._opened.close()

    def configure(self, settings: Settings) -> None:
        """Takes other local-traffic CIDRs; listeners and their connections stay. Raises ValueError."""
        self.redirects.configure(settings)
        self._settings = settings

    # ------------------------------------------------------------ what is wanted

    def reading(self, frontends: Iterable[bytes], services: Iterable[ServiceForwarding]) -> Reading:
        """What is read of these Services."""
        plans = [plan(each, self.redirects.families) for each in services]
        return Reading(list(frontends), plans, self._listeners, self.slots, self.redirects.shows)

    def put(self, service: ServiceForwarding) -> None:
        self._replan(service.key, plan(service, self.redirects.families))

    def put_node(self, node: NodeForwarding) -> None:
        families = self.redirects.families
        self.slots.hold(NODE, {}, tuple(member for member in node_members(node) if member[0] in families))

    def remove(self, owner: ObjectKey) -> None:
        self._replan(owner, _NOTHING)

    def owners(self) -> Iterable[ObjectKey]:
        return list(self._plans)

    def retire(self) -> None:
        self.slots.retire()

    def _replan(self, owner: ObjectKey, wanted: Plan) -> None:
        self._listeners.leave(self._plans.get(owner, _NOTHING).lines.keys() - wanted.lines.keys())
        self._touched[owner] = None
        self._plans[owner] = wanted
        if wanted == _NOTHING:
            del self._plans[owner]
        self._unsupported.pop(owner, None)
        if wanted.unsupported:
            what = ", ".join(wanted.unsupported)
            text = f"{owner}: {what}: userspace mode carries TCP and UDP only: choose another proxy mode"
            self._unsupported[owner] = Failed(owner, "UNSUPPORTED", text)

    def pending(self) -> bool:
        """See `Driver.pending`; SCTP, which never will be, does not count."""
        return bool(self._touched or self._listeners.unopened or self.slots.pending)

    def failures(self) -> Iterator[Failed]:
        yield from self._unsupported.values()
        yield from self._refused.values()
        for port, why in self._listeners.unopened.items():
            text = f"{port.owner}: no listener for port {port.name or 'without a name'}: {why}; tried again"
            yield Failed(port.owner, "RESOURCE_LIMIT", text)

    # ------------------------------------------------------------ the kernel

    def read(self) -> None:
        """See `Driver.read`."""
        try:
            self.slots.forget(self.redirects.read())
        except DataplaneUnavailable as error:
            raise KernelUnavailable(str(error)) from error

    def write(self, sent: Sent, this: Round) -> None:
        """See `Driver.write`. Lists first, then redirects, then listeners that nothing leads to any more go."""
        self._serve()
        if self.redirects.foreign and not this.complete:
            return
        known = this.again and bool(self._refused)  # one reading is enough for what was refused before
        written = Written(sent)
        try:
            self.redirects.write(list(self.slots.differences()), written, again=this.last or known)
        finally:
            self.slots.settle(written.done)
            self._stale.delete(written.done)
        self._refused = {difference.slot: _rejected(difference.owner, why) for difference, why in written.refused}
        self._listeners.dismiss()

    def _serve(self) -> None:
        """Listeners have their lists, and are open, before anything leads to them."""
        self._touched.update(dict.fromkeys(port.owner for port in self._listeners.unopened))
        plans = {owner: self._plans.get(owner, _NOTHING) for owner in self._touched}
        self._listeners.serve(plans.values(), self.slots.frontends.actual)
        for owner, wanted in plans.items():
            self.slots.hold(owner, self._listeners.placements(wanted), wanted.cluster_ips)
        self._touched.clear()

    def repaired(self, *, fruitful: bool) -> None:
        """See `Driver.repaired`; reading has put right what was heard before."""

    def fileno(self) -> int:
        return self.redirects.fileno()

    def drifted(self) -> bool:
        return self.redirects.drifted()


def _rejected(owner: ObjectKey, why: str) -> Failed:
    return Failed(owner, "KERNEL_REJECTED", f"{owner}: {why}")
