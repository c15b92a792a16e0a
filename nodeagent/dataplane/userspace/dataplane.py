"""The userspace dataplane: Services in, listeners and redirects out, touching exactly what differs.

Joins the pure parts (`plan`, `tracker`) with the proxy and a way to redirect. Called by the agent from one thread.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.api import Figure
from nodeagent.dataplane.nftables import naming, render
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.dataplane.userspace.choosing import open_redirects
from nodeagent.dataplane.userspace.direct import DirectRedirects
from nodeagent.dataplane.userspace.figures import figures
from nodeagent.dataplane.userspace.listener_manager import Staff
from nodeagent.dataplane.userspace.plan import Plan, plan
from nodeagent.dataplane.userspace.proxy import Count, Proxy
from nodeagent.dataplane.userspace.redirects import Drifted, Redirects, Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.stale import StaleFlows
from nodeagent.dataplane.userspace.tracker import NODE, STANDS, Placement, Tracker, leads
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable

log = logging.getLogger(__name__)

CALM = 10  # looks of `superseded`
_NOTHING = Plan({}, {}, ())


class UserspaceDataplane:
    """Implements `nodeagent.dataplane.api.Dataplane`.

    Without `redirects`, in the network namespace of the thread that calls `start`; its listeners are there always.
    """

    mode = "userspace"

    def __init__(self, settings: Settings | None = None, redirects: Redirects | None = None) -> None:
        self._settings = settings or Settings()
        self._given = redirects
        self._tracker = Tracker()
        self._plans: dict[ObjectKey, Plan] = {}
        self._invalid: dict[ObjectKey, Failed] = {}
        self._refused: dict[bytes, Failed] = {}  # by slot
        self._completed = False
        self._calm = 0  # looks in a row that found nothing
        self._seen: Mapping[bytes, Placement] | None = None  # what the last look found; None: what the tracker has

    # ------------------------------------------------------------ life

    def start(self) -> None:
        """Adopts our redirects without changing them. Raises DataplaneUnavailable."""
        self._redirects = self._given or open_redirects(self._settings)
        try:
            self._tracker.restart(self._redirects.read())
        except DataplaneUnavailable:
            self._redirects.close()
            raise
        self._flows = self._tracked_flows()
        self._stale = StaleFlows(self._flows)
        self._proxy = Proxy(self._settings)
        self._staff = Staff(self._proxy, self._redirects.place)
        if isinstance(self._redirects, DirectRedirects):
            self._redirects.doors = self._proxy.doors
        self._proxy.start()
        log.info("userspace: redirects by %s", self._redirects.kind)

    def _tracked_flows(self) -> NetlinkTable | None:
        try:
            return NetlinkTable()
        except KernelUnavailable as error:
            log.warning("userspace: UDP clients of deleted Services will not be noticed: %s", error)
            return None

    @property
    def adopted(self) -> bool:
        """Always false: redirects that `start` found lead nowhere until this process listens, so it must not wait."""
        return False

    def close(self) -> None:
        """Ends the proxy, and every connection through it; redirects stay."""
        self._proxy.close()
        self._redirects.close()
        if self._flows is not None:
            self._flows.close()

    def superseded(self) -> bool:
        """Whether no redirect leads here any more, and no connection goes through the proxy (`handover.Carrying`).

        For some looks in a row: who was redirected before may be on the way still, with its handshake half done.
        """
        if isinstance(self._redirects, DirectRedirects):  # a successor cannot listen there before this one has ended
            return not self._proxy.count().connections
        if self._redirects.fileno() < 0 or self._redirects.drifted():
            try:
                self._seen = self._redirects.read()
            except DataplaneUnavailable:
                return False
        seen = self._tracker.standing if self._seen is None else self._seen
        led = any(seen.get(slot) == placement for slot, placement in self._tracker.standing.items() if leads(placement))
        self._calm = 0 if led or self._proxy.count().connections else self._calm + 1
        return self._calm >= CALM

    def count(self) -> Count:
        """How much goes through the proxy at the moment."""
        return self._proxy.count()

    def figures(self) -> Iterable[Figure]:
        """See `Measured.figures`."""
        return figures(self.count())

    # ------------------------------------------------------------ changes

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`. Lists first, then redirects, then listeners that nothing leads to any more go."""
        if node is not None:
            self._take_node(node)
        touched = self._take(services)
        if complete:
            touched.update(dict.fromkeys(self._retire(services)))
            self._completed = True
        self._serve(touched)
        return self._write()

    def _take_node(self, node: NodeForwarding) -> None:
        self._invalid.pop(NODE, None)
        try:
            members = render.node_members(node)
        except ValueError as error:
            self._invalid[NODE] = Failed(NODE, "INVALID_OBJECT", f"service or pod CIDRs: {error}: correct them")
            return
        families = self._redirects.families
        self._tracker.hold(NODE, {member: STANDS for member in members if member[0] in families})

    def _take(self, services: Iterable[ServiceForwarding]) -> dict[ObjectKey, None]:
        """Puts what is wanted into plans; what cannot be said is set aside and its last form stays."""
        touched: dict[ObjectKey, None] = {}
        for service in services:
            self._invalid.pop(service.key, None)
            try:
                wanted = plan(service, self._redirects.families)
            except (ValueError, OverflowError, KeyError) as error:
                self._invalid[service.key] = Failed(service.key, "INVALID_OBJECT", f"{service.key}: {error}")
                continue
            self._replan(service.key, wanted)
            touched[service.key] = None
        return touched

    def _replan(self, owner: ObjectKey, wanted: Plan) -> None:
        self._staff.leave(self._plans.get(owner, _NOTHING).lines.keys() - wanted.lines.keys())
        if wanted == _NOTHING:
            self._plans.pop(owner, None)
        else:
            self._plans[owner] = wanted
        if wanted.unsupported:
            what = ", ".join(wanted.unsupported)
            text = f"{owner}: {what}: userspace mode carries TCP and UDP only: choose another proxy mode"
            self._invalid[owner] = Failed(owner, "UNSUPPORTED", text)

    def _retire(self, services: Sequence[ServiceForwarding]) -> list[ObjectKey]:
        """Everything that is not wanted by these Services is to go."""
        kept = {service.key for service in services}
        gone = [owner for owner in self._plans if owner not in kept]
        for owner in gone:
            self._replan(owner, _NOTHING)
        for owner in [owner for owner in self._invalid if owner not in kept and owner != NODE]:
            del self._invalid[owner]
        self._tracker.retire_unclaimed()
        return gone

    def _serve(self, touched: dict[ObjectKey, None]) -> None:
        """Listeners have their lists, and are open, before anything leads to them."""
        touched.update(dict.fromkeys(port.owner for port in self._staff.unopened))
        plans = {owner: self._plans.get(owner, _NOTHING) for owner in touched}
        self._staff.serve(plans.values(), self._tracker.standing)
        for owner, wanted in plans.items():
            self._tracker.hold(owner, self._staff.placements(wanted))

    def _write(self) -> Commit:
        """Redirects that differ; afterwards listeners go that nothing leads to."""
        if self._redirects.foreign and not self._completed:
            return Commit(failed=self._failures())
        try:
            written = self._redirects.write(list(self._tracker.differences()))
        except Drifted:
            log.warning("userspace: our redirects were changed by somebody else, reading them again")
            self._read_again()
            written = self._redirects.write(list(self._tracker.differences()), again=True)
        return self._settled(written)

    def _settled(self, written: Written) -> Commit:
        self._tracker.settle(written.done)
        for difference in written.done:
            self._refused.pop(difference.slot, None)
        for difference, why in written.refused:
            text = f"{difference.owner}: {why}; tried again with the next change"
            self._refused[difference.slot] = Failed(difference.owner, "KERNEL_REJECTED", text)
        self._stale.sweep(written.done)
        self._staff.dismiss()
        return Commit(written.messages, written.elements, written.size, failed=self._failures())

    def pending(self) -> bool:
        """True while something wanted is not as it should be; SCTP, which never will be, does not count."""
        invalid = any(failed.code != "UNSUPPORTED" for failed in self._invalid.values())
        return bool(self._tracker.dirty or invalid or self._staff.unopened)

    # ------------------------------------------------------------ others

    def fileno(self) -> int:
        """Readable when somebody changed the kernel's tables; -1 where that cannot be heard."""
        return self._redirects.fileno()

    def drifted(self) -> bool:
        """Whether somebody else changed our redirects since the last repair. Call when `fileno` is readable."""
        return self._redirects.drifted()

    def repair(self) -> Commit:
        """Compares the redirects with what is wanted and writes what differs. Raises KernelUnavailable."""
        self._read_again()
        return self._write()

    def configure(self, settings: Settings) -> Commit:
        """Takes other local-traffic CIDRs from now on; listeners and their connections stay.

        Raises ValueError, changing nothing, for a CIDR that is none, KernelUnavailable as `apply`.
        """
        self._redirects.configure(settings)
        self._settings = settings
        return self.repair()

    def _read_again(self) -> None:
        try:
            standing = self._redirects.read()
        except DataplaneUnavailable as error:
            raise KernelUnavailable(str(error)) from error
        self._tracker.restart(standing)
        if self._completed:
            self._tracker.retire_unclaimed()

    def _failures(self) -> tuple[Failed, ...]:
        """Every object that is not as it should be, each once."""
        found = dict(self._invalid)
        for failed in self._refused.values():
            found.setdefault(failed.key, failed)
        for port, why in self._staff.unopened.items():
            text = f"{port.owner}: no listener for port {port.name or 'without a name'}: {why}; tried again"
            found.setdefault(port.owner, Failed(port.owner, "RESOURCE_LIMIT", text))
        for loser, slot, holder in self._tracker.conflicts():
            text = f"{loser}: {naming.name_of(slot)} belongs to {holder}: change one of them"
            found.setdefault(loser, Failed(loser, "CONFLICT", text))
        return tuple(found.values())
