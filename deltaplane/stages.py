"""Durations of several stages as one metric, with a label that names the stage. Shown by both programs' metrics pages.

stages = Stages("deltaplane_agent_stage_seconds", "Time that ...", ("receive", "commit"), BOUNDS)
stages.of["commit"].observe(0.002)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from deltaplane.durations import Durations

STAGE_BOUNDS = (
    *(0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1),
    *(0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
)
"""Of one stage, seconds: 50 microseconds to a minute."""
SLO_BOUNDS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 20.0),
    *(30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0),
)
"""From a change to a kernel, seconds. Whole seconds are bounds: an objective like "99 % within 1 s" is read exactly."""


class Stages(Collector):
    """`of`: the numbers of each stage. A stage with the name "" has no label: the metric is then a plain histogram."""

    def __init__(
        self, name: str, text: str, stages: Sequence[str] = ("",), bounds: Sequence[float] = SLO_BOUNDS
    ) -> None:
        self._name, self._text = name, text
        self.of = {stage: Durations(bounds) for stage in stages}

    def collect(self) -> Iterator[HistogramMetricFamily]:
        labels = [] if "" in self.of else ["stage"]
        metric = HistogramMetricFamily(self._name, self._text, labels=labels)
        for stage, durations in self.of.items():
            metric.add_metric([stage] if labels else [], durations.buckets(), durations.sum)
        yield metric
