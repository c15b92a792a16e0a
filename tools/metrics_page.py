"""docs/metrics.md: every metric of both programs, from the collectors themselves: `make manual`.

The collectors are made without a cluster and without a kernel: what they would say of one is empty, and their names,
labels and texts are there. A test holds the page against the names that the source has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from controlplane.certificates.keeper import Keeper
from controlplane.certificates.values import Times
from controlplane.cluster import Cluster
from controlplane.endpoints.figures import EndpointsFigures
from controlplane.facts import Following
from controlplane.gate.figures import GateFigures
from controlplane.identity.refused import Refused
from controlplane.lease_figures import LeaseFigures
from controlplane.log import Log
from controlplane.metrics import Figures
from controlplane.nodes import Nodes
from controlplane.otlp_export import QuietExporter
from controlplane.propagation import Propagation
from controlplane.report import Report
from controlplane.trace import NoTracing
from deltaplane import tls
from deltaplane.loop_meter import LoopMeter
from deltaplane.tls_figures import Certificates
from nodeagent.dataplane import restore_metrics
from nodeagent.dataplane.api import DriverMetric
from nodeagent.dataplane.iptables import metrics as of_iptables
from nodeagent.dataplane.userspace import metrics as of_userspace
from nodeagent.dataplane.userspace.proxy import Count
from nodeagent.drain.figures import DrainFigures
from nodeagent.metrics.collectors import Crowded, Failures, Kept
from nodeagent.metrics.registry import Metrics
from nodeagent.web.slis import Slis

PAGE = Path(__file__).parents[1] / "docs" / "metrics.md"
HEAD = """# All metrics

Written by `make manual` from the programs themselves: do not edit. What to make of them:
[of an agent](operating.md#on-a-cluster), [of the control plane](operating.md#metrics-of-the-control-plane). Names that
begin with `kubeproxy_` are kube-proxy's, with its labels and its meaning. Both programs have the Prometheus library's
`process_` and `python_info` as well.
"""
_NOTHING: Any = None  # of what is not asked for a metric's name


class Described(NamedTuple):
    """One metric as its page names it."""

    name: str  # as exposed: a counter's with _total
    kind: str  # counter, gauge or histogram
    labels: tuple[str, ...]
    text: str


def page() -> str:
    """The whole page."""
    parts = [
        ("## Control plane", "On `--metrics-listen`.", list(control_plane())),
        ("## Agent", "On `--metrics-bind-address`; by default `127.0.0.1:10249`.", list(agent())),
        *((f"## Agent in {mode} mode", "Beside those above.", list(found)) for mode, found in modes().items()),
        ("## Agent, `/metrics/slis`", "On the same address.", list(of_registry(Slis().registry))),
    ]
    return "\n".join([HEAD, *(line for title, text, found in parts for line in _table(title, text, found))])


def every() -> Iterator[Described]:
    """All of them."""
    yield from (*control_plane(), *agent(), *of_registry(Slis().registry))
    for found in modes().values():
        yield from found


def control_plane() -> Iterator[Described]:
    """Of every part that there may be: certificates of its own, the endpoints controllers."""
    report = Report()
    figures = Figures(
        Cluster(Log(), NoTracing(), report), Nodes(), report,
        sources=lambda: [Following("services", 1)], requests=Counter(), failures=Counter(),
    )  # fmt: skip
    keeper = Keeper(_NOTHING, _NOTHING, _NOTHING, (), Times(86400.0, 3600.0))
    others = (
        keeper,
        EndpointsFigures(_runner()),
        LeaseFigures(tuple),
        Propagation(NoTracing()),
        QuietExporter(_NOTHING, ""),
        GateFigures(int, float),
    )
    for each in (figures, Refused(), *others, *_of_both()):
        yield from of_collector(each)


def _runner() -> Any:
    """The endpoints controllers before anything happened."""
    return SimpleNamespace(writes={}, syncs={}, controllers=(), names=(), seconds={})


def _of_both() -> tuple[Collector, ...]:
    return LoopMeter(), Certificates(tls.Kept(tls.Files()))


def agent() -> Iterator[Described]:
    """Of every part that does not depend on the mode."""
    metrics = Metrics("")
    metrics.chose("", "", fell_back=False)
    yield from of_registry(metrics.registry)
    journal: Any = SimpleNamespace(failures=0, kept=False, age=lambda: 0.0)
    for each in (Failures({}), Crowded(int), Kept(journal), DrainFigures(int), *_of_both()):
        yield from of_collector(each)


def modes() -> dict[str, list[Described]]:
    """What a mode has beside."""
    common = set(of_registry(Metrics("").registry))
    kernel: Any = SimpleNamespace(packets=lambda _: None)
    return {
        "nftables": [each for each in of_registry(Metrics("nftables").registry) if each not in common],
        "iptables": [of_driver(each) for each in of_iptables.metrics(kernel, ())],
        "ipvs": [of_driver(restore_metrics.failed_restores(()))],
        "userspace": [of_driver(each) for each in of_userspace.metrics(Count(0, 0, 0, 0, 0, 0, 0, 0, 0))],
    }


def of_driver(metric: DriverMetric) -> Described:
    return Described(metric.name, "counter" if metric.counter else "gauge", tuple(metric.labels), metric.text)


def of_registry(registry: CollectorRegistry) -> Iterator[Described]:
    for collector in dict.fromkeys(vars(registry)["_collector_to_names"]):
        yield from of_collector(collector)


def of_collector(collector: Any) -> Iterator[Described]:
    """The library's own collectors of the process are left out."""
    if isinstance(collector, MetricWrapperBase):
        own = vars(collector)
        kind = type(collector).__name__.lower()
        name = f"{own['_name']}_total" if kind == "counter" else own["_name"]
        yield Described(name, kind, tuple(own["_labelnames"]), own["_documentation"])
    elif not type(collector).__module__.startswith("prometheus_client."):
        yield from (of_family(family) for family in collector.collect() if not family.name.startswith("process_"))


def of_family(family: Metric) -> Described:
    name = f"{family.name}_total" if family.type == "counter" else family.name
    return Described(name, family.type, tuple(vars(family).get("_labelnames", ())), family.documentation)


def _table(title: str, text: str, found: Iterable[Described]) -> Iterator[str]:
    yield from (title, "", text, "", "| metric | kind | labels | what it says |", "|---|---|---|---|")
    for each in sorted(found):
        labels = ", ".join(f"`{label}`" for label in each.labels)
        yield f"| `{each.name}` | {each.kind} | {labels} | {each.text.replace('|', chr(92) + '|')} |"
    yield ""


if __name__ == "__main__":
    PAGE.write_text(page())
