"""The agent's metrics: kube-proxy's names and labels (prefix kubeproxy_), and Deltaplane's own (prefix deltaplane_).

One `Metrics` for the process; the agent calls its verbs, the web listeners show `registry`. Children with labels are
bound once here, so that a hot path pays for an addition and no look-up. Durations are seconds.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.metrics import Counter, Gauge, disable_created_metrics
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import CollectorRegistry

from deltaplane import moments, tls
from deltaplane.durations import DURATIONS
from deltaplane.forwarding import ServiceForwarding
from deltaplane.model import ObjectKey
from deltaplane.tls_figures import Certificates
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.dataplane.api import Dataplane, Measured
from nodeagent.dataplane.outcome import Commit
from nodeagent.metrics.collectors import Crowded, Failures, Figures, Kept
from nodeagent.metrics.delivery import Delivery
from nodeagent.metrics.ends import Ends
from nodeagent.metrics.factory import FAMILIES, Factory
from nodeagent.metrics.histograms import CommitDurations
from nodeagent.metrics.no_local_endpoints import POLICIES, Unserved
from nodeagent.metrics.programming_latency import PROGRAMMING, Programming, Trigger
from nodeagent.stream.contact import Contact
from nodeagent.stream.journal import Journal

disable_created_metrics()  # type: ignore[no-untyped-call]  # otherwise each counter has a second series, with its creation time


class Metrics:
    """All of them, on a registry of their own. `mode` is the kernel backend's: some names belong to one mode."""

    def __init__(self, mode: str = "nftables", clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._make = Factory(self.registry)
        self._clock = clock
        self._contact = Contact(clock())
        self._committed_at = self._queued_at = 0.0  # wall-clock seconds
        self._services_pending = self._endpoints_pending = 0
        self._commits = CommitDurations(DURATIONS, tuple(FAMILIES.values()))
        self._unserved = Unserved()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._kube_proxy(mode)
        self._conntrack()
        self._stream()
        self._kernel()

    # ------------------------------------------------------------ what the agent calls

    def received(self, services: int, endpoints: int, triggers: Iterable[Trigger] = ()) -> None:
        """Changes of so many Services and EndpointSlices arrived, caused at these times, and wait for a commit."""
        if services:
            self._service_changes.inc(services)
            self._services_pending += services
        if endpoints:
            self._endpoint_changes.inc(endpoints)
            self._endpoints_pending += endpoints
        self._queued_at = time.time()
        self._programming.want(triggers)

    def resolved(self, forwardings: Iterable[ServiceForwarding]) -> None:
        """What these Services mean now, for the count of those without endpoints on this node."""
        for (policy, family), number in self._unserved.update(forwardings).items():
            self._no_local[policy, family].set(number)

    def count_commit(self, commit: Commit, seconds: float, *, complete: bool = False) -> None:
        """A commit ended after so long. `complete`: it compared the whole state."""
        self._committed_at = time.time()
        (self._commits.whole if complete else self._commits.change).observe(seconds)
        self._messages.inc(commit.messages)
        self._elements.inc(commit.elements)
        self._bytes.inc(commit.size)
        self._services_pending = self._endpoints_pending = 0
        if self._programming.waiting:
            self._programming.programmed({item.key for item in commit.failed}, moments.unix_nano())
        self._note_failed(commit)

    def delivered(self, report: pb.CommitReport, causes: Iterable[pb.Cause], now: int) -> None:
        """A change that a replica sent is in the kernel at `now`, Unix nanoseconds."""
        self._delivery.delivered(report, causes, now)

    def refused(self) -> None:
        """The kernel took nothing of a commit; what was wanted stays pending."""
        self._refusals.inc()
        for counter in self._sync_failures:
            counter.inc()

    def revisions(self, applied: int, head: int, *, behind: bool | None = None) -> None:
        """The revision in this kernel, the newest that a replica announced, and whether the kernel lacks something."""
        self._applied.set(applied)
        self._head.set(head)
        self._contact.note(self._clock(), behind=applied < head if behind is None else behind)

    def braked(self, services: int) -> None:
        """The safety brake holds a change that removes so many Services; 0: nothing is held."""
        self._braked.set(services)

    def heard(self) -> None:
        """A replica's message has been handled."""
        self._contact.heard(self._clock())

    def connected(self, *, connected: bool) -> None:
        """A replica said Welcome, or the stream ended."""
        if connected and not self._contact.connected:
            self._connects.inc()
        self._contact.connected = connected

    def resynced(self, reason: str) -> None:
        """This agent asked the replica for what it lacks; `reason` is a name of ResyncReason without its prefix."""
        self._resyncs.labels(reason).inc()

    def repaired(self) -> None:
        """Something else changed our tables, and what was missing was written again."""
        self._repairs.inc()

    def conntrack(self, family: int, seconds: float, deleted: int) -> None:
        """Stale flows of a family were looked for."""
        self._reconciled[family].observe(seconds)
        self._deleted[family].inc(deleted)

    def answered(self, path: str, code: int) -> None:
        """/healthz or /livez answered with 200 or 503."""
        (self._healthz if path == "/healthz" else self._livez)[code].inc()

    def chose(self, asked: str, mode: str, *, fell_back: bool) -> None:
        """The mode in use, and whether another was named and cannot work here."""
        text = "1: the mode that was asked for cannot work here, and this one is in use."
        labels = ("asked", "mode")
        Gauge("deltaplane_proxy_mode_fallback", text, labels, registry=self.registry).labels(asked, mode).set(fell_back)

    def show(self, dataplane: Dataplane, busy: Callable[[], bool] = lambda: False) -> None:
        """Shows the backend's own figures from now on, if it has any; see `Figures`."""
        if isinstance(dataplane, Measured):
            self.registry.register(Figures(dataplane, busy))

    def watch(self, failures: Mapping[str, int]) -> None:
        """Shows the failures of this process's own tasks, by task, from now on."""
        self.registry.register(Failures(failures))

    def crowds(self, ended: Callable[[], int]) -> None:
        """Shows how many connections to this agent's HTTP addresses gave way to newer ones, from now on."""
        self.registry.register(Crowded(ended))

    def keeps(self, journal: Journal) -> None:
        """Shows the journal's state from now on."""
        self.registry.register(Kept(journal))

    def shows(self, kept: tls.Kept) -> None:
        """How this agent's certificates fare is on the page from now on."""
        self.registry.register(Certificates(kept))

    # ------------------------------------------------------------ what they are

    def _kube_proxy(self, mode: str) -> None:
        sync = "kubeproxy_sync_proxy_rules"
        self.registry.register(self._commits)
        self._programming = Programming(PROGRAMMING, FAMILIES, moments.unix_nano())
        self.registry.register(self._programming)
        self._delivery = Delivery()
        self.registry.register(self._delivery)
        for gauge in self._make.gauges(f"{sync}_last_timestamp_seconds", "When a commit last succeeded.").values():
            gauge.set_function(lambda: self._committed_at)
        for gauge in self._make.gauges(f"{sync}_last_queued_timestamp_seconds", "When a change last arrived.").values():
            gauge.set_function(lambda: self._queued_at)
        pending = self._make.gauge(f"{sync}_endpoint_changes_pending", "Slice changes that are not in the kernel.")
        pending.set_function(lambda: self._endpoints_pending)
        self._endpoint_changes = self._make.counter(f"{sync}_endpoint_changes_total", "Slice changes that arrived.")
        pending = self._make.gauge(f"{sync}_service_changes_pending", "Service changes that are not in the kernel.")
        pending.set_function(lambda: self._services_pending)
        self._service_changes = self._make.counter(f"{sync}_service_changes_total", "Service changes that arrived.")
        name, text = f"{sync}_no_local_endpoints_total", "Service ports with a Local policy and no endpoint here."
        gauge = Gauge(name, text, ("traffic_policy", "ip_family"), registry=self.registry)
        self._no_local = {
            (policy, family): gauge.labels(policy, label) for policy in POLICIES for family, label in FAMILIES.items()
        }
        self._sync_failures: list[Counter] = []
        if mode == "nftables":
            failures = self._make.counters(f"{sync}_nftables_sync_failures_total", "Commits the kernel refused.")
            self._sync_failures = list(failures.values())
            self._make.counters(f"{sync}_nftables_cleanup_failures_total", "Always 0: nothing is cleaned up later.")
        self._healthz = self._make.codes("kubeproxy_proxy_healthz_total", "Answers of /healthz.")
        self._livez = self._make.codes("kubeproxy_proxy_livez_total", "Answers of /livez.")

    def _conntrack(self) -> None:
        name = "kubeproxy_conntrack_reconciler"
        self._reconciled = self._make.histograms(f"{name}_sync_duration_seconds", "Time of looking for stale flows.")
        self._deleted = self._make.counters(f"{name}_deleted_entries_total", "Stale flows deleted.")

    def _stream(self) -> None:
        self._applied = self._make.gauge("deltaplane_applied_revision", "The revision in this kernel.")
        self._head = self._make.gauge("deltaplane_head_revision", "The newest revision that a replica has announced.")
        contact, clock = self._contact, self._clock
        lag = self._make.gauge(
            "deltaplane_head_lag_seconds", "For how long the kernel has not been known to be at the head."
        )
        lag.set_function(lambda: contact.lag(clock()))
        age = self._make.gauge("deltaplane_last_contact_seconds", "Since a replica's last message, or since the start.")
        age.set_function(lambda: contact.age(clock()))
        connected = self._make.gauge("deltaplane_stream_connected", "1 from the Welcome to the stream's end.")
        connected.set_function(lambda: contact.connected)
        text = "Services that a held change would remove; 0: the safety brake holds nothing."
        self._braked = self._make.gauge("deltaplane_safety_brake_services", text)
        self._connects = self._make.counter("deltaplane_stream_connects_total", "Streams that a replica welcomed.")
        self.ends = Ends(self.registry)
        self._resyncs = Counter("deltaplane_resyncs_total", "States asked for again, by reason.", ("reason",),
                                registry=self.registry)  # fmt: skip

    def _kernel(self) -> None:
        self._messages = self._make.counter("deltaplane_kernel_messages_total", "Netlink messages sent.")
        self._elements = self._make.counter("deltaplane_kernel_elements_total", "Elements written and deleted.")
        self._bytes = self._make.counter("deltaplane_kernel_bytes_total", "Bytes sent on netlink sockets.")
        self._refusals = self._make.counter(
            "deltaplane_kernel_refusals_total", "Commits that the kernel refused whole."
        )
        self._repairs = self._make.counter("deltaplane_kernel_repairs_total", "Times others changed our tables.")
        self._failures = Counter("deltaplane_object_failures_total", "Objects that began to fail.", ("code",),
                                 registry=self.registry)  # fmt: skip
        self._failing = Gauge("deltaplane_objects_failing", "Objects that are not in the kernel.", ("code",),
                              registry=self.registry)  # fmt: skip
        self._failed: dict[ObjectKey, str] = {}

    def _note_failed(self, commit: Commit) -> None:
        failed = {item.key: item.code for item in commit.failed}
        if failed == self._failed:
            return
        for key, code in failed.items():
            if self._failed.get(key) != code:
                self._failures.labels(code).inc()
        now = Tally(failed.values())
        for code in {*self._failed.values(), *now}:
            self._failing.labels(code).set(now[code])
        self._failed = failed
