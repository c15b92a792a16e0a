"""How far nodes lag, on the metrics page, in a number of series that does not grow with the nodes. Read at a scrape."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest

from prometheus_client.core import GaugeMetricFamily, Metric

from controlplane.session import Session

MORE_THAN = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds
SLOWEST = 5  # nodes that are named
WORTH_NAMING = 1.0  # seconds: below that, who is slowest is chance


def lagging(sessions: Sequence[Session], now: float) -> Iterator[Metric]:
    """Of connected nodes. `now`: monotonic seconds."""
    lags = [(each.behind_seconds(now), each.node_name) for each in sessions if each.closed is None]
    text = "Connected nodes that have lacked a revision for more than so many seconds."
    counted = GaugeMetricFamily("deltaplane_nodes_lagging", text, labels=["seconds"])
    for bound in MORE_THAN:
        counted.add_metric([f"{bound:g}"], sum(lag > bound for lag, _ in lags))
    yield counted
    text = f"For how long the {SLOWEST} nodes that lag most have lacked a revision, where that is more than a second."
    named = GaugeMetricFamily("deltaplane_slowest_node_lag_seconds", text, labels=["node"])
    for lag, name in nlargest(SLOWEST, (each for each in lags if each[0] > WORTH_NAMING)):
        named.add_metric([name], lag)
    yield named
