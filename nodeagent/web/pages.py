"""The metrics address: /metrics, /metrics/slis, /proxyMode, /configz and a plain /healthz."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib import import_module
from typing import Any

from prometheus_client.metrics_core import Metric
from prometheus_client.registry import CollectorRegistry

from deltaplane.http1 import JSON
from nodeagent.web.server import NOT_FOUND, Request, Response, Server
from nodeagent.web.slis import Slis

END = b"# EOF\n"  # of OpenMetrics
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

    async def __call__(self, path: str, accept: str = "") -> Response:
        """`accept`: the kinds of answer that the scraper takes; of OpenMetrics, the answer has exemplars."""
        if path == "/metrics":
            return await _rendered(self._registry, accept)
        if path == "/metrics/slis":
            return await _rendered(self._slis.registry, accept)
        if path == "/healthz":
            self._slis.checked("ping", "healthz", fine=True)
            return Response("ok")
        if path == "/proxyMode":
            return Response(self._mode)
        if path == "/configz":
            return Response(json.dumps({CONFIGZ: self._configuration()}), content_type=JSON)
        return NOT_FOUND


class MetricsServer(Server):
    """Answers with `MetricsPages` in the form that the client asks for."""

    def __init__(self, opened: socket.socket, pages: MetricsPages) -> None:
        super().__init__(opened, pages)
        self._pages = pages

    async def _respond(
        self, request: Request, _reader: asyncio.StreamReader, _writer: asyncio.StreamWriter
    ) -> Response:
        return await self._pages(request.path, request.accept)


async def _rendered(registry: CollectorRegistry, accept: str) -> Response:
    """One metric at a time: all together take milliseconds, in which a change would wait for the kernel."""
    library = await _exposition()
    encode, content_type = library.choose_encoder(accept)
    rendered: list[bytes] = []
    for metric in registry.collect():
        rendered.append(encode(_One(metric)).removesuffix(END))
        await asyncio.sleep(0)
    end = END if content_type.startswith("application/openmetrics-text") else b""
    return Response(b"".join(rendered) + end, content_type=content_type)


async def _exposition() -> Any:
    """The library's module that renders. It imports servers that nobody needs here, so it is loaded at the first
    scrape, not at the start, and beside the loop: a change does not wait for it."""
    return await asyncio.to_thread(partial(import_module, EXPOSITION))
