"""The control plane's own metrics page (`--metrics-listen`): what it follows, whom it streams to, and what goes wrong.

It reads everything at the time of a scrape, in a thread of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector, CollectorRegistry

from controlplane.cluster import Cluster
from controlplane.errors import ControlPlaneError
from controlplane.facts import Following
from controlplane.lagging import lagging
from controlplane.metrics_page import start
from controlplane.nodes import Nodes
from controlplane.report import Report
from deltaplane import moments
from deltaplane.flags import host_port
from deltaplane.model import KIND_NAMES, Kind
from deltaplane.v1 import inspection_pb2

STATES = tuple(inspection_pb2.NodeState.items())[1:]
_PREFIX = "NODE_STATE_"


class Figures(Collector):
    """`sources` and `requests` are the source's: what it follows, and its API requests by (verb, resource, code)."""

    def __init__(
        self,
        cluster: Cluster,
        nodes: Nodes,
        report: Report,
        *,
        sources: Callable[[], Iterable[Following]],
        requests: Counter[tuple[str, str, str]],
        failures: Counter[str],
        tails_refused: Callable[[], int] = int,
        no_agents: Callable[[], str] = str,
    ) -> None:
        self._tails_refused, self._no_agents = tails_refused, no_agents
        self._cluster, self._nodes, self._report = cluster, nodes, report
        self._sources, self._requests, self._failures = sources, requests, failures

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        yield from self._streams()
        yield from self._history()
        yield from self._followed()
        yield from self._counted()

    def _streams(self) -> Iterator[Metric]:
        now = time.monotonic()
        sessions = list(self._nodes)
        states = Counter(session.state(now) for session in sessions)
        streams = GaugeMetricFamily("deltaplane_streams", "Node agents by state.", labels=["state"])
        for name, value in STATES:
            streams.add_metric([name.removeprefix(_PREFIX)], states[value])
        yield streams
        lags = [session.behind_seconds(now) for session in sessions if session.closed is None]
        text = "For how long the connected node that lags most lacks a revision."
        yield GaugeMetricFamily("deltaplane_stream_lag_seconds", text, max(lags, default=0.0))
        yield from lagging(sessions, now)
        acked = [session.acked for session in sessions if session.closed is None]
        held = sum(each.brake is not None for each in acked)
        yield GaugeMetricFamily("deltaplane_safety_brakes_held", "Nodes whose safety brake holds a change.", held)
        failing = sum(len(each.failed) + each.more_failed for each in acked)
        yield GaugeMetricFamily(
            "deltaplane_objects_failing", "Objects that fail on nodes, counted once a node.", failing
        )
        resyncs = CounterMetricFamily("deltaplane_resyncs", "States that agents asked for again.", labels=["reason"])
        for reason, number in sorted(self._nodes.resyncs.items()):
            resyncs.add_metric([reason], number)
        yield resyncs
        text = (
            "Streams whose Welcome waited because this replica was behind what the agent had seen, by how that ended."
        )
        yield from self._sent_away()
        waited = CounterMetricFamily("deltaplane_held_streams", text, labels=["outcome"])
        for outcome in ("caught up", "still behind"):
            waited.add_metric([outcome], self._nodes.held[outcome])
        yield waited
        yield from self._brought_up()
        text = "Tails of commits that were refused, because there were as many as allowed."
        yield CounterMetricFamily("deltaplane_tails_refused", text, value=self._tails_refused())
        yield CounterMetricFamily("deltaplane_sent_bytes", "Bytes of messages to agents.", value=self._nodes.sent_bytes)
        text = "Messages to agents; beside what deltaplane_head_revision grows by, the fan-out."
        yield CounterMetricFamily("deltaplane_sent_messages", text, value=self._nodes.sent_messages)

    def _sent_away(self) -> Iterator[Metric]:
        text = "1 while agents are welcome; 0: this replica does not follow its source, and others do."
        yield GaugeMetricFamily("deltaplane_takes_agents", text, not self._no_agents())
        text = "Agents sent to another replica, because this one had more than its share of the streams."
        yield CounterMetricFamily("deltaplane_agents_sent_away", text, self._nodes.sent_home)
        text = "Agents sent to another replica, because this one did not follow its source and others did."
        yield CounterMetricFamily("deltaplane_agents_sent_on", text, self._nodes.sent_on)
        text = "Hellos refused, because this replica did not follow its source and others did."
        yield CounterMetricFamily("deltaplane_agents_turned_away", text, self._nodes.turned_away)

    def _brought_up(self) -> Iterator[Metric]:
        tally = self._nodes.tally
        text = "States of agents that were brought up, by what led to it and by what was sent."
        number = CounterMetricFamily("deltaplane_resumes", text, labels=["reason", "extent"])
        for labels, count in sorted(tally.number.items()):
            number.add_metric(list(labels), count)
        yield number
        size = CounterMetricFamily("deltaplane_snapshot_bytes", "Bytes of snapshots, by extent.", labels=["extent"])
        for extent, count in sorted(tally.size.items()):
            size.add_metric([extent], count)
        yield size

    def _history(self) -> Iterator[Metric]:
        log, store = self._cluster.log, self._cluster.store
        yield GaugeMetricFamily("deltaplane_head_revision", "The newest revision of this replica's history.", log.head)
        yield GaugeMetricFamily("deltaplane_history_bytes", "Bytes of the history that is kept.", log.size)
        yield CounterMetricFamily(
            "deltaplane_history_renewals", "Histories begun anew, because nobody knew what led to the state.",
            value=self._cluster.renewals,
        )  # fmt: skip
        objects = GaugeMetricFamily("deltaplane_objects", "Objects that are streamed.", labels=["kind"])
        for kind in Kind:
            objects.add_metric([KIND_NAMES[kind]], store.count(kind))
        yield objects

    def _followed(self) -> Iterator[Metric]:
        following = GaugeMetricFamily(
            "deltaplane_source_following", "1 while a resource is followed.", labels=["resource"]
        )
        age = GaugeMetricFamily(
            "deltaplane_source_failing_seconds", "For how long a resource has not been followed.", labels=["resource"]
        )
        unread = GaugeMetricFamily(
            "deltaplane_source_unread_files", "Files that changed, or cannot be read, and are not taken in.",
            labels=["resource"],
        )  # fmt: skip
        waiting = GaugeMetricFamily(
            "deltaplane_source_unread_seconds", "For how long the oldest of these has waited.", labels=["resource"]
        )
        now = moments.unix_nano()
        for each in self._sources():
            unread.add_metric([each.resource], each.unread)
            waiting.add_metric(
                [each.resource], max(0.0, (now - each.unread_since_unix_nano) / 1e9) if each.unread else 0.0
            )
            following.add_metric([each.resource], not each.error)
            age.add_metric([each.resource], max(0.0, (now - each.since_unix_nano) / 1e9) if each.error else 0.0)
        yield from (following, age, unread, waiting)
        invalid = len(self._report.problems)
        yield GaugeMetricFamily("deltaplane_objects_unusable", "Objects that are not used as they are.", invalid)

    def _counted(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "deltaplane_api_requests",
            "Requests to the API server. Verb probe: whether it lives, after 30 s without news of any watch.",
            labels=["verb", "resource", "code"],
        )
        for labels, number in sorted(self._requests.items()):
            requests.add_metric(list(labels), number)
        yield requests
        failures = CounterMetricFamily("deltaplane_task_failures", "Parts that failed and go on.", labels=["task"])
        for name, number in sorted(self._failures.items()):
            failures.add_metric([name], number)
        yield failures


def serve(address: str, figures: Figures, *others: Collector) -> Callable[[], None]:
    """Serves the page at HOST:PORT in a thread; returns a stop function. Raises `ControlPlaneError` if it fails."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    for each in (figures, *others):
        registry.register(each)
    host, port = host_port(address)
    try:
        _, end = start(host, port, registry)
    except OSError as error:
        raise ControlPlaneError(
            f"--metrics-listen={address}: {error.strerror}; free the address or name another"
        ) from error
    return end
