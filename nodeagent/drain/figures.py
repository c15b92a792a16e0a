"""What became of Pods' questions: counted by `pages`, read at a scrape.

Results: `gone` (every node has let go), `late` (some had not in time), `still` (this node's own state sends to the Pod,
which does not end), `refused` (the caller gets no answer), `left` (it went before its answer), `failed` (ours).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from deltaplane.stages import SLO_BOUNDS, Stages
from nodeagent.drain.questions import Outcome

RESULTS = ("gone", "late", "still", "refused", "left", "failed")


class DrainFigures(Collector):
    """`open_`: how many addresses are asked for now."""

    def __init__(self, open_: Callable[[], int]) -> None:
        self._open = open_
        self._requests = Counter[str](dict.fromkeys(RESULTS, 0))
        self._late = 0
        text = "How long Pods' questions took that were answered with 200 or 504."
        self._seconds = Stages("deltaplane_drain_seconds", text, bounds=SLO_BOUNDS)

    def answered(self, outcome: Outcome) -> None:
        """A question has its answer."""
        late = len(outcome.answer.late) + outcome.answer.more
        self._requests["gone" if outcome.answer.gone else "still" if outcome.still else "late"] += 1
        self._late += 0 if outcome.answer.gone else late
        self._seconds.of[""].observe(outcome.seconds)

    def ended(self, result: str) -> None:
        """A question ended without one: `refused`, `left` or `failed`."""
        self._requests[result] += 1

    def collect(self) -> Iterator[Metric]:
        """The metrics, as a registry asks for them."""
        requests = CounterMetricFamily("deltaplane_drain_requests", "Pods' questions, by result.", labels=["result"])
        for result in RESULTS:
            requests.add_metric([result], self._requests[result])
        yield requests
        yield from self._seconds.collect()
        text = "Nodes that had not let go of a Pod in time, counted once for each question."
        yield CounterMetricFamily("deltaplane_drain_late_nodes", text, value=self._late)
        yield GaugeMetricFamily("deltaplane_drain_waiting", "Pods that wait for an answer.", value=self._open())
