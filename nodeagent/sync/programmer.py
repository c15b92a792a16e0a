"""Writes the mirror's state into the kernel: resolves Services for this node, commits, repairs and retries.

Owned by the agent; one call at a time. Every success, whatever led to it, ends in `_succeeded`, which calls the hooks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from math import inf
from typing import NamedTuple

from deltaplane import moments
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.frontends import Frontends, Slot, parts
from deltaplane.resolve import NodeView
from deltaplane.states import Machine
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.dataplane.api import Bordering, Dataplane, Slow
from nodeagent.dataplane.commit_hooks import CommitHook, Wanted
from nodeagent.dataplane.outcome import Commit
from nodeagent.dataplane.resolver import Resolver
from nodeagent.errors import KernelUnavailable
from nodeagent.node.node_info import NodeInfo, PodCidrs
from nodeagent.stream.mirror import Mirror, Touched
from nodeagent.sync.pace import Pace
from nodeagent.sync.phases import TRANSITIONS, Phase, Step
from nodeagent.sync.reporting import Times, report_of, to_messages
from nodeagent.sync.retries import CommitRetries

GATHER = 1.0  # seconds that changes gather at most, where a commit takes long; kube-proxy's default
REPAIR_PAUSE = 0.5  # seconds between two repairs: bounds CPU while another program rewrites our tables


class Committed(NamedTuple):
    """The kernel has what was wanted, apart from `failed`: all objects that fail now, for any reason."""

    report: pb.CommitReport
    failed: list[pb.ObjectFailure]


class Programmer:
    """What writes returns None where the kernel took nothing: it stays wanted, and is retried.

    `drifted`: others changed our tables, and they are not repaired yet. `hooks` hear of each commit, before and after.
    `follow_cidrs` is given the Node's pod CIDRs, where the mode needs them. `gather`: seconds, see `Pace`.
    """

    def __init__(
        self,
        node: NodeInfo,
        dataplane: Dataplane,
        hooks: Sequence[CommitHook] = (),
        follow_cidrs: Callable[[tuple[str, ...]], None] | None = None,
        gather: float = GATHER,
    ) -> None:
        self.phases = Machine(TRANSITIONS)
        self.drifted = False
        self.retries = CommitRetries()
        self._pace = Pace(gather)
        self._repair_at = 0.0  # monotonic seconds
        self._node = node
        self._dataplane = dataplane
        self._slow = dataplane if isinstance(dataplane, Slow) else None  # asked of each message, and a check takes 6 us
        self._hooks = hooks
        self._pod_cidrs = PodCidrs(follow_cidrs)
        self._frontends = Frontends()
        self._view = NodeView(node.name)
        self._failed: list[pb.ObjectFailure] = []
        self.begin_anew()

    def begin_anew(self) -> None:
        """The mirror is empty; what the kernel has stays."""
        self.mirror = Mirror()
        self._resolver = Resolver(self.mirror, self._frontends)

    def close(self) -> None:
        """Closes the kernel's sockets; what is programmed stays."""
        self._dataplane.close()

    # ------------------------------------------------------------ where it stands

    @property
    def complete(self) -> bool:
        """Whether this kernel has had a whole state since the start."""
        return self.phases.state is not Phase.ADOPTED

    @property
    def in_step(self) -> bool:
        """Whether a change is committed as such; otherwise the whole state is to be compared."""
        return self.phases.state is Phase.IN_STEP

    def facts(self) -> tuple[Frontends, NodeView, NodeForwarding | None, Dataplane, list[pb.ObjectFailure]]:
        """What this node makes of the mirror, for inspection; `failures` as of the last commit."""
        return self._frontends, self._view, self._node.forwarding(self.mirror), self._dataplane, self._failed

    @property
    def adopted(self) -> bool:
        """Whether the kernel had something of ours at the start."""
        return self._dataplane.adopted

    @property
    def slow(self) -> bool:
        """Whether any commit may take more than some milliseconds."""
        return self._slow is not None and self._slow.slow

    def doubt(self) -> None:
        """The next commit compares the whole state: the mirror was replaced, or a defect left a change half done."""
        self.phases.move(Step.DOUBT)

    # ------------------------------------------------------------ when it is to be called

    def rest(self, now: float) -> float:
        """Seconds in which changes are to gather before the next commit."""
        return self._pace.rest(now) if self.slow and self.in_step else 0.0

    def pause(self, now: float) -> float:
        """Seconds until one of the three below is due; infinite if none is."""
        return min(self.node_due(now), self.repair_due(now), self.retry_due(now))

    def node_due(self, now: float) -> float:
        """Seconds until `node_changed` is due, because node port addresses were waited for long enough."""
        return self._node.due_in(now) if self.complete else inf

    def repair_due(self, now: float) -> float:
        """Seconds until `repair` is due."""
        return max(0.0, self._repair_at - now) if self.drifted and self.complete else inf

    def retry_due(self, now: float) -> float:
        """Seconds until `retry` is due, or the comparison of the whole state where that was refused."""
        unsettled = self.retries.stuck or self._dataplane.pending()
        return max(0.0, self.retries.retry_at - now) if unsettled else inf

    # ------------------------------------------------------------ commits

    def change(self, touched: Touched, times: Times | None = None) -> Committed | None:
        """Commits what a delta touched. `times`: of the delta's message."""
        names = list(touched.services)
        mine = self._node.name in touched.nodes
        if mine and (view := self._node.view(self.mirror)) != self._view:
            self._view = view
            names = list(dict.fromkeys((*names, *self.mirror.services)))  # removed Services are only in `touched`
        inside = self._nodes_changed(touched)
        node = self._node.forwarding(self.mirror) if mine or inside or touched.service_cidrs else None
        began = time.monotonic()
        try:
            return self._commit(self._resolver.resolve(names, self._view), node, times)
        finally:
            self._pace.committed(began, time.monotonic())

    def compare(self, times: Times | None = None) -> Committed | None:
        """Compares the kernel with the whole state, and writes the differences."""
        self._view = self._node.view(self.mirror)
        self._nodes_changed(None)
        services = self._resolver.resolve_all(self._view)
        return self._commit(services, self._node.forwarding(self.mirror), times, complete=True)

    def node_changed(self) -> Committed | None:
        """Commits where node ports answer now."""
        return self._commit((), self._node.forwarding(self.mirror))

    def addresses_changed(self) -> Committed | None:
        """This machine has other addresses, as with each pod; commits nothing where they do not matter."""
        return self.node_changed() if self.complete and self._node.follows_machine else None

    def reserve(self, what: str, slots: Iterable[Slot]) -> Committed | None:
        """No Service gets these, and no ServiceCIDR their addresses, from now on or with the first whole state."""
        taken = frozenset(slots)
        inside = self._node.reserve(what, {address for *_, address in map(parts, taken) if address})
        touched = [(key.namespace, key.name) for key in self._frontends.reserve(what, taken)]
        if not (touched or inside) or not self.complete:
            return None
        node = self._node.forwarding(self.mirror) if inside else None
        return self._commit(self._resolver.resolve(touched, self._view), node)

    def retry(self, now: float) -> Committed | None:
        """Commits again what the kernel refused."""
        self.retries.retrying(now)
        return self._commit(()) if self.in_step else None

    def kernel_changed(self) -> None:
        """The dataplane's descriptor is readable: others may have changed our tables."""
        self.drifted = self._dataplane.drifted() or self.drifted

    def repair(self, now: float) -> Committed | None:
        """Writes what others removed or changed; no replica is asked."""
        self._repair_at = now + REPAIR_PAUSE
        began = time.perf_counter_ns()
        try:
            done = self._dataplane.repair()
        except KernelUnavailable as error:
            self._refused(str(error))
            return None
        self.drifted = False
        self.retries.repaired(done.elements, now)
        return self._succeeded(done, report_of((began, began), began, time.perf_counter_ns(), done))

    # ------------------------------------------------------------ how a commit ends

    def _nodes_changed(self, touched: Touched | None) -> bool:
        """Tells the backend of other Nodes' addresses; whether the node's own answer may be another one now."""
        come, gone, inside, elsewhere = self._node.heard(self.mirror, touched)
        if (come or gone) and isinstance(self._dataplane, Bordering):
            self._dataplane.neighbours(come, gone)
        return inside or elsewhere

    def _commit(
        self,
        services: Sequence[ServiceForwarding],
        node: NodeForwarding | None = None,
        times: Times | None = None,
        *,
        complete: bool = False,
    ) -> Committed | None:
        resolved = time.perf_counter_ns()
        for hook in self._hooks:
            hook.want(Wanted(services, node, complete))
        try:
            self._pod_cidrs.take(self._node.pod_cidrs(self.mirror))
            done = self._dataplane.apply(services, node, complete=complete)
        except KernelUnavailable as error:
            self._refused(str(error))
            return None
        report = report_of(times or (resolved, resolved), resolved, time.perf_counter_ns(), done)
        return self._succeeded(done, report, complete=complete)

    def _succeeded(self, done: Commit, report: pb.CommitReport, *, complete: bool = False) -> Committed:
        for hook in self._hooks:
            hook.committed(done, report.commit_ns / 1e9)
        if complete:
            self.phases.move(Step.COMPARED)
        theirs = (item for hook in self._hooks for item in hook.failures())
        failures = (*done.failed, *theirs, *self._resolver.failures(), *self._node.failures())
        now = time.monotonic()
        self.retries.accepted(failures, now)
        retry_in = self.retries.retry_at - now
        self._failed = to_messages(failures, self.mirror.hash_of, moments.unix_nano(), retry_in)
        return Committed(report, self._failed)

    def _refused(self, reason: str) -> None:
        for hook in self._hooks:
            hook.refused()
        self.retries.refused(reason, time.monotonic())
