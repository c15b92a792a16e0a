"""The agent's two HTTP addresses, as its settings say; `nodeagent.app` runs what this gives as tasks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from deltaplane.model import Node
from deltaplane.supervise import Job
from nodeagent.config import AgentSettings
from nodeagent.config.document import plain
from nodeagent.metrics.registry import Metrics
from nodeagent.web.health import Health, HealthPages
from nodeagent.web.listener import serve, serve_with
from nodeagent.web.pages import MetricsPages, MetricsServer
from nodeagent.web.server import EVERYBODY


def health(settings: AgentSettings) -> Health:
    """The health that these settings ask for: a change may be late by twice the sync period (K2)."""
    return Health(2 * settings.sync_period.seconds)


def site(settings: AgentSettings, health: Health, metrics: Metrics, node: Callable[[], Node | None]) -> list[Job]:
    """Jobs that serve until cancelled; one raises `nodeagent.errors.AgentError` where binding is to be fatal.

    `node` gives this node's object as it is now, None while it is unknown.
    """
    running: list[Job] = []
    metrics.crowds(lambda: EVERYBODY.ended)
    hard = settings.bind_address_hard_fail
    if settings.healthz_address:
        pages = HealthPages(health, node, metrics.answered)
        running.append(Job("healthz", serve(settings.healthz_address, "healthz-bind-address", pages, hard_fail=hard)))
    if settings.metrics_address:
        shown = MetricsPages(metrics.registry, settings.proxy_mode, lambda: plain(settings.configuration))
        make = partial(MetricsServer, pages=shown)
        serving = serve_with(settings.metrics_address, "metrics-bind-address", make, hard_fail=hard)
        running.append(Job("metrics", serving))
    return running
