"""The metrics address: /metrics, /metrics/slis, /proxyMode, /configz and a plain /healthz."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

from deltaplane.http1 import JSON
from nodeagent.web.server import NOT_FOUND, Response
from nodeagent.web.slis import Slis

CONFIGZ = "kubeproxy.config.k8s.io"
EXPOSITION = "prometheus_client.exposition"


class _One(CollectorRegistry):
    """A registry of one metric, to render it alone."""

    def __init__(self, metric: Metric) -> None:
        super().__init__()
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class MetricsPages:
    """`configuration` gives the running configuration in the file's form; it is rendered when asked for."""

    def __init__(self, registry: CollectorRegistry, mode: str, configuration: Callable[[], Mapping[str, Any]]) -> None:
        self._registry = registry
        self._mode = mode
        self._configuration = configuration
        self._slis = Slis()

    async def __call__(self, path: str) -> Response:
        if path == "/metrics":
            return await _rendered(self._registry)
        if path == "/metrics/slis":
            return await _rendered(self._slis.registry)
        if path == "/healthz":
            self._slis.checked("ping", "healthz", fine=True)
            return Response("ok")
        if path == "/proxyMode":
            return Response(self._mode)
        if path == "/configz":
            return Response(json.dumps({CONFIGZ: self._configuration()}), content_type=JSON)
        return NOT_FOUND


async def _rendered(registry: CollectorRegistry) -> Response:
    """One metric at a time: all together take milliseconds, in which a change would wait for the kernel."""
    library = await _exposition()
    rendered: list[bytes] = []
    for metric in registry.collect():
        rendered.append(library.generate_latest(_One(metric)))
        await asyncio.sleep(0)
    return Response(b"".join(rendered), content_type=library.CONTENT_TYPE_PLAIN_0_0_4)


async def _exposition() -> Any:
    """The library's module that renders. It imports servers that nobody needs here, so it is loaded at the first
    scrape, not at the start, and beside the loop: a change does not wait for it."""
    return await asyncio.to_thread(partial(import_module, EXPOSITION))
