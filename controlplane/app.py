"""The one place that wires the control plane: source, cluster, server and what goes along with them.

    app = App(settings, meter)
    await app.run()  # until SIGTERM or SIGINT

Called by `main`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import deltaplane
from controlplane import peers_flags, prepared
from controlplane.agent_nodes import AgentNodes
from controlplane.certificates.served import Served
from controlplane.cluster import Cluster
from controlplane.facts import Following
from controlplane.identity.door import Door
from controlplane.identity.listener import Listener
from controlplane.identity.peer import Way
from controlplane.identity.rights import Rights
from controlplane.identity.tokens import Tokens
from controlplane.log import Log
from controlplane.metrics import Figures, serve
from controlplane.notices import Notice
from controlplane.propagation import Propagation
from controlplane.report import Report
from controlplane.server import Server
from controlplane.settings import Settings
from controlplane.trace import NoTracing, Tracing
from deltaplane import logs, supervise, tls
from deltaplane.grpc_servers import handlers_ended
from deltaplane.loop_meter import LoopMeter
from deltaplane.supervise import Job

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from controlplane.certificates.keeper import Keeper
    from controlplane.endpoints.runner import Runner
    from controlplane.gate.early import EarlyEndpoints
    from controlplane.gate.runner import Gate
    from controlplane.identity.reviews import Reviews
    from controlplane.source.replicas import Replicas

log = logging.getLogger(__name__)


class Source(Protocol):
    """Where facts come from."""

    async def run(self) -> None:
        """Feeds the sink until cancelled. Raises `errors.SourceError` if the configuration is unusable."""

    @property
    def following(self) -> list[Following]:
        """How each resource is followed."""

    @property
    def requests(self) -> Counter[tuple[str, str, str]]:
        """Requests to the API server by verb, resource and code."""

    def tell(self, notice: Notice) -> None:
        """Tells an operator, if the source has a place for notices (notices.Notices)."""


class App:
    """`run` raises `ControlPlaneError` or `supervise.Ended` when it cannot go on."""

    def __init__(self, settings: Settings, meter: LoopMeter) -> None:
        self._settings, self._meter, self._report = settings, meter, Report()
        self._watch = supervise.Watch()
        self._watch.install()
        tracing, self._spans = _tracing(settings)
        self._tracing = Propagation(tracing)
        agent_nodes = AgentNodes(settings.agent_node_selector)
        self._cluster = Cluster(Log(), self._tracing, self._report, tell=self._tell, agent_nodes=agent_nodes)
        early = _early(settings, self._cluster)
        self._source = _source(settings, self._cluster, self._report, early)
        served, self._keeper = _own(settings, self._source)
        self._listener = Listener(settings.listen, settings.security, served, loopback=settings.listen_loopback)
        self._reviews = _reviews(settings, self._source)
        self._replicas = _replicas(settings, self._source)
        self._door = _door(settings, self._reviews)
        self._runner = _runner(settings, self._source, self._report)
        self._server = self._made()
        self._gate = self._gated(early)

    def _tell(self, notice: Notice) -> None:
        self._source.tell(notice)

    def _made(self) -> Server:
        settings = self._settings
        return Server(
            settings.listen,
            self._cluster,
            self._tracing,
            self._source,
            watch=self._watch,
            sources=lambda: self._source.following,
            listener=self._listener,
            door=self._door,
            health_listen=settings.health_listen,
            me=settings.replicas.me,
            finder=peers_flags.finder(settings.replicas, self._replicas.of if self._replicas else None),
            dial=peers_flags.dial(settings.replicas, settings.security),
        )

    def _gated(self, early: EarlyEndpoints | None) -> Gate | None:
        """What sets the Pods' readiness gate; None: nobody asks for it."""
        if self._settings.gate is None or early is None:
            return None
        from controlplane.gate.runner import Gate

        return Gate(
            self._settings.kubeconfig, self._settings.gate, early, hash_of=self._cluster.store.hash_of,
            wait=self._server.wait_applied, requests=self._source.requests, reporter=self._report,
        )  # fmt: skip

    async def run(self) -> None:
        """Runs until SIGTERM or SIGINT, then ends everything in order."""
        end_page = self._page()
        stop = supervise.at_signal()
        await self._server.start()
        logs.event(
            log, logging.INFO, "started", version=deltaplane.__version__, source=self._settings.source,
            listen=self._settings.listen, epoch=self._cluster.log.epoch.hex(),
        )  # fmt: skip
        try:
            await supervise.together(Job("signals", stop.wait(), finishes=True), *self._jobs())
        finally:
            await self._close(end_page)
        logs.event(log, logging.INFO, "stopped")

    def _jobs(self) -> list[Job]:
        jobs = [Job("source", self._source.run()), Job("server", self._server.run())]
        if self._keeper is not None:
            jobs.append(Job("certificates", self._keeper.run()))
        if self._server.reached is not None:
            jobs.append(Job("replicas", self._watch.restarting("replicas", self._server.reached.run)))
        if self._runner is not None:
            jobs.append(Job("controllers", self._watch.restarting("controllers", self._runner.run)))
        if self._settings.http_listen:
            jobs += self._page_jobs()
        if self._gate is not None:
            jobs.append(Job("readiness gate", self._watch.restarting("readiness gate", self._gate.run)))
        return jobs

    def _page_jobs(self) -> list[Job]:
        from controlplane.page.history import History
        from controlplane.page.served import served

        server = self._server
        history = History(lambda: server.nodes)
        server.progress.hear(history.commit)
        page = served(self._settings, server.inspection, self._door, history)
        return [Job("page", page), Job("history", self._watch.restarting("history", history.run))]

    def _page(self) -> Callable[[], None] | None:
        """Serves the metrics, if that is asked for; returns what ends it."""
        if not self._settings.metrics_listen:
            return None
        figures = Figures(
            self._cluster,
            self._server.nodes,
            self._report,
            sources=self._followed,
            requests=self._source.requests,
            failures=self._watch.failures,
            tails_refused=lambda: self._server.progress.tails_refused,
            no_agents=lambda: self._server.aside.reason,
        )
        own = [self._keeper] if self._keeper else []
        more = _figures(self._runner, self._keeper, self._gate)
        shown = [self._meter, self._tracing, *self._spans, self._door.refused, *self._listener.collectors, *own, *more]
        return serve(self._settings.metrics_listen, figures, *shown)

    def _followed(self) -> list[Following]:
        of_others = (each.following for each in (self._runner, self._gate) if each is not None)
        return [*self._source.following, *(one for found in of_others for one in found)]

    async def _close(self, end_page: Callable[[], None] | None) -> None:
        await self._server.stop()
        for asked in (self._reviews, self._replicas):
            if asked is not None:
                await asked.close()
        self._tracing.close()
        if end_page is not None:
            await asyncio.to_thread(end_page)
        await handlers_ended()


def _tracing(settings: Settings) -> tuple[Tracing, list[Collector]]:
    """With its own metrics."""
    if not settings.otlp_endpoint:
        return NoTracing(), []
    from controlplane.otlp import OtlpTracing

    made = OtlpTracing(settings.otlp_endpoint, settings.trace_sample_ratio)
    return made, [made.exporter]


def _reviews(settings: Settings, source: Source) -> Reviews | None:
    """Who is asked about tokens; None: nobody needs to be, or there is no API server."""
    if settings.source == "manifests" or settings.security.way is not Way.TLS:
        return None
    from controlplane.identity.reviews import Reviews

    return Reviews(settings.kubeconfig, settings.security.audience, source.requests)


def _replicas(settings: Settings, source: Source) -> Replicas | None:
    """Who is asked where the replicas are; None: nobody needs to be."""
    if not settings.replicas.service[1]:
        return None
    from controlplane.source.replicas import Replicas

    return Replicas(settings.kubeconfig, source.requests)


def _door(settings: Settings, reviews: Reviews | None) -> Door:
    if reviews is None:
        return Door(settings.security)
    return Door(settings.security, Tokens(reviews.token, settings.security.audience), Rights(reviews.right))


def _own(settings: Settings, source: Source) -> tuple[Served | None, Keeper | None]:
    """The certificate of the control plane's own, and what keeps it; None: it comes from files, or there is none.

    Imports what makes certificates only where they are made: that takes 6 MB.
    """
    own = settings.security.own
    if own is None:
        return None, None
    from controlplane.certificates.keeper import Keeper
    from controlplane.certificates.objects import Objects
    from controlplane.certificates.stored import LEASE
    from controlplane.lease import Lease, me
    from controlplane.source.connection import Connection

    served = Served(tls.Kept(settings.security.files))
    connection = Connection(settings.kubeconfig, source.requests)
    lease = Lease(connection.api, own.namespace, LEASE, me())
    return served, Keeper(Objects(connection, own.namespace), lease, served, own.names, own.times)


def _runner(settings: Settings, source: Source, report: Report) -> Runner | None:
    """The controllers that write to the API; None: there are none (those of a folder are with its source)."""
    if settings.source == "manifests" or not settings.controllers:
        return None
    from controlplane.endpoints.runner import Runner

    return Runner(settings.kubeconfig, settings.controllers, source.requests, report, settings.slice_manager)


def _figures(runner: Runner | None, keeper: Keeper | None, gate: Gate | None) -> list[Collector]:
    """Of what has Leases."""
    elected = [each for each in (runner, keeper, gate) if each is not None]
    if not elected:
        return []
    from controlplane.lease_figures import LeaseFigures

    found: list[Collector] = [LeaseFigures(lambda: [each.lease for each in elected])]
    if runner is not None:
        from controlplane.endpoints.figures import EndpointsFigures

        found.append(EndpointsFigures(runner))
    return [*found, *([] if gate is None else [gate.figures])]


def _early(settings: Settings, cluster: Cluster) -> EarlyEndpoints | None:
    """What has endpoints ready before their Pods' gate is set; None: nobody asks for the gate."""
    if settings.gate is None:
        return None
    from controlplane.gate.early import EarlyEndpoints

    return EarlyEndpoints(cluster)


def _source(settings: Settings, cluster: Cluster, report: Report, early: EarlyEndpoints | None) -> Source:
    """Imports only the chosen source: the Kubernetes client alone takes 46 MB."""
    if settings.source == "manifests":
        return _folder(settings, cluster, report)
    prepared.import_aiohttp()
    from controlplane.source.kubernetes import KubernetesSource

    sink = cluster if early is None else early
    return KubernetesSource(
        settings.kubeconfig, sink, report, identify=cluster.identify, selector=settings.service_selector
    )


def _folder(settings: Settings, cluster: Cluster, report: Report) -> Source:
    from controlplane.source.manifests import ManifestSource

    directory = settings.manifests or ""
    if not settings.controllers:
        return ManifestSource(directory, cluster, report, identify=cluster.identify)
    from controlplane.endpoints.folder import FolderEndpoints
    from controlplane.endpoints.manifests import MORE

    return ManifestSource(directory, FolderEndpoints(cluster), report, identify=cluster.identify, more=MORE)
