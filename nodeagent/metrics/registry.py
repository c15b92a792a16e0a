"""The agent's metrics: kube-proxy's names and labels (prefix kubeproxy_), and Deltaplane's own (prefix deltaplane_).

One `Metrics` for the process; the agent calls its verbs, the web listeners show `registry`. Children with labels are
bound once here, so that a hot path pays for an addition and no look-up. Durations are seconds.
"""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Mapping, Sequence

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from deltaplane.forwarding import ServiceForwarding
from deltaplane.model import Family, ObjectKey
from nodeagent.dataplane.api import Dataplane, Measured
from nodeagent.dataplane.outcome import Commit
from nodeagent.metrics.collectors import Failures, Figures, Kept
from nodeagent.metrics.histograms import Commits
from nodeagent.metrics.no_local_endpoints import POLICIES, Unserved
from nodeagent.metrics.programming_latency import Programming, Trigger
from nodeagent.stream.contact import Contact
from nodeagent.stream.journal import Journal

FAMILIES = {int(Family.IPV4): "IPv4", int(Family.IPV6): "IPv6"}
DURATIONS = tuple(0.001 * 2**power for power in range(-4, 18))
"""62.5 microseconds to 131 seconds; kube-proxy's own bounds (1 ms to 16.4 s) are among them."""
PROGRAMMING = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30)),  # kube-proxy's
    *(600, 1800, 3600),
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series beside each that nobody asked for


class Metrics:
    """All of them, on a registry of their own. `mode` is the kernel backend's: some names belong to one mode."""

    def __init__(self, mode: str = "nftables", clock: Callable[[], float] = time.monotonic) -> None:
        self.registry = CollectorRegistry()
        self._clock = clock
        self._contact = Contact(clock())
        self._committed_at = self._queued_at = 0.0  # wall-clock seconds
        self._services_pending = self._endpoints_pending = 0
        self._commits = Commits(DURATIONS, tuple(FAMILIES.values()))
        self._unserved = Unserved()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self._kube_proxy(mode)
        self._conntrack()
        self._stream()
        self._kernel()

    # ------------------------------------------------------------ what the agent calls

    def received(self, services: int, endpoints: int, triggers: Iterable[Trigger] = ()) -> None:
        """Changes of so many Services and EndpointSlices arrived, caused at these times; pending until `committed`."""
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

    def committed(self, commit: Commit, seconds: float, *, complete: bool = False) -> None:
        """A commit ended after so long. `complete`: it compared the whole state."""
        self._committed_at = time.time()
        (self._commits.whole if complete else self._commits.change).observe(seconds)
        self._messages.inc(commit.messages)
        self._elements.inc(commit.elements)
        self._bytes.inc(commit.size)
        self._services_pending = self._endpoints_pending = 0
        if self._programming.waiting:
            self._programming.committed({item.key for item in commit.failed}, time.time_ns())
        self._note_failed(commit)

    def refused(self) -> None:
        """The kernel took nothing of a commit; what was wanted stays pending."""
        self._refusals.inc()
        for counter in self._sync_failures:
            counter.inc()

    def position(self, applied: int, head: int, *, behind: bool | None = None) -> None:
        """The revision in this kernel, the newest a replica has told of, and whether the kernel lacks something."""
        self._applied.set(applied)
        self._head.set(head)
        self._contact.position(self._clock(), behind=applied < head if behind is None else behind)

    def braked(self, services: int) -> None:
        """The safety brake holds a change that removes so many Services; 0: nothing is held."""
        self._braked.set(services)

    def heard(self) -> None:
        """A replica's message has been dealt with."""
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

    def show(self, dataplane: Dataplane) -> None:
        """What the backend counts by itself is on the page from now on, where it counts anything."""
        if isinstance(dataplane, Measured):
            self.registry.register(Figures(dataplane))

    def watch(self, failures: Mapping[str, int]) -> None:
        """What failed of this process's own tasks is on the page from now on, by task."""
        self.registry.register(Failures(failures))

    def keeps(self, journal: Journal) -> None:
        """How the journal fares is on the page from now on."""
        self.registry.register(Kept(journal))

    # ------------------------------------------------------------ what they are

    def _kube_proxy(self, mode: str) -> None:
        sync = "kubeproxy_sync_proxy_rules"
        self.registry.register(self._commits)
        self._programming = Programming(PROGRAMMING, FAMILIES, time.time_ns())
        self.registry.register(self._programming)
        for gauge in self._gauges(f"{sync}_last_timestamp_seconds", "When a commit last succeeded.").values():
            gauge.set_function(lambda: self._committed_at)
        for gauge in self._gauges(f"{sync}_last_queued_timestamp_seconds", "When a change last arrived.").values():
            gauge.set_function(lambda: self._queued_at)
        pending = self._gauge(f"{sync}_endpoint_changes_pending", "Slice changes that are not in the kernel.")
        pending.set_function(lambda: self._endpoints_pending)
        self._endpoint_changes = self._counter(f"{sync}_endpoint_changes_total", "Slice changes that arrived.")
        pending = self._gauge(f"{sync}_service_changes_pending", "Service changes that are not in the kernel.")
        pending.set_function(lambda: self._services_pending)
        self._service_changes = self._counter(f"{sync}_service_changes_total", "Service changes that arrived.")
        name, text = f"{sync}_no_local_endpoints_total", "Service ports with a Local policy and no endpoint here."
        gauge = Gauge(name, text, ("traffic_policy", "ip_family"), registry=self.registry)
        self._no_local = {
            (policy, family): gauge.labels(policy, label) for policy in POLICIES for family, label in FAMILIES.items()
        }
        self._sync_failures: list[Counter] = []
        if mode == "nftables":
            failures = self._counters(f"{sync}_nftables_sync_failures_total", "Commits the kernel refused.")
            self._sync_failures = list(failures.values())
            self._counters(f"{sync}_nftables_cleanup_failures_total", "Always 0: nothing is left to clean up later.")
        self._healthz = self._codes("kubeproxy_proxy_healthz_total", "Answers of /healthz.")
        self._livez = self._codes("kubeproxy_proxy_livez_total", "Answers of /livez.")

    def _conntrack(self) -> None:
        name = "kubeproxy_conntrack_reconciler"
        self._reconciled = self._per_family(f"{name}_sync_duration_seconds", "Time of looking for stale flows.")
        self._deleted = self._counters(f"{name}_deleted_entries_total", "Stale flows deleted.")

    def _stream(self) -> None:
        self._applied = self._gauge("deltaplane_applied_revision", "The revision in this kernel.")
        self._head = self._gauge("deltaplane_head_revision", "The newest revision a replica has told of.")
        contact, clock = self._contact, self._clock
        lag = self._gauge(
            "deltaplane_head_lag_seconds", "For how long the kernel has not been known to be at the head."
        )
        lag.set_function(lambda: contact.lag(clock()))
        age = self._gauge("deltaplane_last_contact_seconds", "Since a replica's last message, or since the start.")
        age.set_function(lambda: contact.age(clock()))
        connected = self._gauge("deltaplane_stream_connected", "1 from a replica's Welcome until the stream's end.")
        connected.set_function(lambda: contact.connected)
        text = "Services that a held change would remove; 0: the safety brake holds nothing."
        self._braked = self._gauge("deltaplane_safety_brake_services", text)
        self._connects = self._counter("deltaplane_stream_connects_total", "Streams that a replica welcomed.")
        self._resyncs = Counter("deltaplane_resyncs_total", "States asked for again, by reason.", ("reason",),
                                registry=self.registry)  # fmt: skip

    def _kernel(self) -> None:
        self._messages = self._counter("deltaplane_kernel_messages_total", "Netlink messages sent.")
        self._elements = self._counter("deltaplane_kernel_elements_total", "Elements written and deleted.")
        self._bytes = self._counter("deltaplane_kernel_bytes_total", "Bytes sent on netlink sockets.")
        self._refusals = self._counter("deltaplane_kernel_refusals_total", "Commits of which the kernel took nothing.")
        self._repairs = self._counter("deltaplane_kernel_repairs_total", "Times others changed our tables.")
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

    # ------------------------------------------------------------ how they are made

    def _gauge(self, name: str, text: str) -> Gauge:
        return Gauge(name, text, registry=self.registry)

    def _counter(self, name: str, text: str) -> Counter:
        return Counter(name, text, registry=self.registry)

    def _gauges(self, name: str, text: str) -> dict[int, Gauge]:
        metric = Gauge(name, text, ("ip_family",), registry=self.registry)
        return {family: metric.labels(label) for family, label in FAMILIES.items()}

    def _counters(self, name: str, text: str) -> dict[int, Counter]:
        metric = Counter(name, text, ("ip_family",), registry=self.registry)
        return {family: metric.labels(label) for family, label in FAMILIES.items()}

    def _per_family(self, name: str, text: str, buckets: Sequence[float] = DURATIONS) -> dict[int, Histogram]:
        metric = Histogram(name, text, ("ip_family",), buckets=buckets, registry=self.registry)
        return {family: metric.labels(label) for family, label in FAMILIES.items()}

    def _codes(self, name: str, text: str) -> dict[int, Counter]:
        metric = Counter(name, text, ("code",), registry=self.registry)
        return {code: metric.labels(str(code)) for code in (200, 503)}
