"""`deltaplane controlplane`: wires source, cluster, server and traces, and ends them in order."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

import deltaplane
from controlplane.cluster import Cluster
from controlplane.errors import ControlPlaneError
from controlplane.facts import Following
from controlplane.log import Log
from controlplane.metrics import Figures, serve
from controlplane.notices import Notice
from controlplane.report import Report
from controlplane.server import Server
from controlplane.settings import Settings, parse
from controlplane.trace import NoTracing, OtlpTracing, Tracing
from deltaplane import logs, loop_meter, supervise
from deltaplane.loop_meter import LoopMeter
from deltaplane.supervise import Job

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where facts come from."""

    async def run(self) -> None:
        """Feeds the sink until cancelled. Raises `errors.SourceError` when it cannot be used at all."""

    @property
    def following(self) -> list[Following]:
        """How each resource is followed."""

    @property
    def requests(self) -> Counter[tuple[str, str, str]]:
        """Requests to the API server by verb, resource and code."""

    def tell(self, notice: Notice) -> None:
        """Tells an operator where the source has a place for it (notices.Notices)."""


def main(arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 1 with one line on standard error when it cannot run."""
    settings = parse(arguments)
    logs.configure(settings.verbosity)
    failures: list[Exception] = []
    meter = LoopMeter()
    try:
        loop_meter.run(_run(settings, meter), meter)
    except* (ControlPlaneError, supervise.Ended) as group:
        failures += _flat(group)
    for failure in failures[:1]:
        print(logs.line(f"deltaplane controlplane: {failure}"), file=sys.stderr)
    return 1 if failures else 0


def _flat(group: BaseExceptionGroup[Exception]) -> Iterator[Exception]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _flat(error)
        else:
            yield error


async def _run(settings: Settings, meter: LoopMeter) -> None:
    watch = supervise.Watch()
    watch.install()
    tracing = _tracing(settings)
    report = Report()
    cluster = Cluster(Log(), tracing, report, tell=lambda notice: source.tell(notice))  # noqa: PLW0108 - made below
    source = _source(settings, cluster, report)
    server = Server(settings.listen, cluster, tracing, source, watch=watch, sources=lambda: source.following)
    figures = Figures(
        cluster,
        server.nodes,
        report,
        sources=lambda: source.following,
        requests=source.requests,
        failures=watch.failures,
    )
    end_page = serve(settings.metrics_listen, figures, meter) if settings.metrics_listen else None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await server.start()
    logs.event(
        log, logging.INFO, "started", version=deltaplane.__version__, source=settings.source, listen=settings.listen,
        epoch=cluster.log.epoch.hex(),
    )  # fmt: skip
    try:
        signals = Job("signals", stop.wait(), finishes=True)
        await supervise.together(signals, Job("source", source.run()), Job("server", server.run()))
    finally:
        await server.stop()
        tracing.close()
        if end_page is not None:
            await asyncio.to_thread(end_page)
    logs.event(log, logging.INFO, "stopped")


def _tracing(settings: Settings) -> Tracing:
    if not settings.otlp_endpoint:
        return NoTracing()
    return OtlpTracing(settings.otlp_endpoint, settings.trace_sample_ratio)


def _source(settings: Settings, cluster: Cluster, report: Report) -> Source:
    """Imports only what is asked for: the Kubernetes client alone costs 46 MB."""
    if settings.source == "manifests":
        from controlplane.source.manifests import ManifestSource

        return ManifestSource(settings.manifests or "", cluster, report, identify=cluster.identify)
    from controlplane.source.kubernetes import KubernetesSource

    return KubernetesSource(settings.kubeconfig, cluster, report, identify=cluster.identify)
