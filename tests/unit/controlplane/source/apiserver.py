"""A small API server on loopback: scripted answers per request, and every query remembered."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request, asyncio.Event], Awaitable[web.StreamResponse]]


class ApiServer:
    """Answers requests for a path in the order of its script; when that is used up, holds a silent watch open."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.queries: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.created: list[tuple[str, dict[str, Any]]] = []  # path and body of each POST
        self.url = ""
        self.current = ""  # the version it tells whoever asks for that alone, outside of the script
        self.confirmed = 0  # how often
        self._script: list[Answer] = []
        self._stop = asyncio.Event()

    def then(self, *answers: Answer) -> None:
        self._script.extend(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("limit") == "1":
            self.confirmed += 1
            return await page(version=self.current)(request, self._stop)
        self.paths.append(request.path)
        self.queries.append(dict(request.query))
        self.headers.append(dict(request.headers))
        if request.method == "POST":
            self.created.append((request.path, await request.json()))
        answer = self._script.pop(0) if self._script else watch(hold=True)
        return await answer(request, self._stop)

    @asynccontextmanager
    async def running(self, identity: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[ApiServer]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self.handle)
        app.router.add_post("/{path:.*}", self.handle)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, ssl_context=identity, reuse_address=True)
        await site.start()
        self.url = f"http{'s' if identity else ''}://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            self._stop.set()
            await runner.cleanup()


def watch(*events: dict[str, Any] | bytes, hold: bool = False) -> Answer:
    """A watch with these events, closed in good order after them unless held open."""

    async def answer(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        lines = [one if isinstance(one, bytes) else json.dumps(one).encode() + b"\n" for one in events]
        await response.write(b"".join(lines) or b"\n")
        if hold:
            await stop.wait()
        return response

    return answer


def page(*items: dict[str, Any], version: str = "1", token: str = "") -> Answer:
    body = {"metadata": {"resourceVersion": version, "continue": token}, "items": list(items)}

    async def answer(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        return web.json_response(body)

    return answer


def status(
    code: int, message: str = "", headers: dict[str, str] | None = None, details: dict[str, Any] | None = None
) -> Answer:
    async def answer(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        body = {"kind": "Status", "code": code, "message": message, "details": details}
        return web.json_response(body, status=code, headers=headers)

    return answer


def service(name: str, address: str = "10.96.0.1", version: str = "1", **spec: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": "shop", "resourceVersion": version, "managedFields": [{"a": {"b": {}}}]}
    return {"kind": "Service", "metadata": metadata, "spec": {"clusterIP": address, "ports": [{"port": 80}], **spec}}


def added(thing: dict[str, Any]) -> dict[str, Any]:
    return {"type": "ADDED", "object": thing}


def modified(thing: dict[str, Any]) -> dict[str, Any]:
    return {"type": "MODIFIED", "object": thing}


def deleted(thing: dict[str, Any]) -> dict[str, Any]:
    return {"type": "DELETED", "object": thing}


def bookmark(version: str, end: bool = False) -> dict[str, Any]:
    annotations = {"k8s.io/initial-events-end": "true"} if end else {}
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version, "annotations": annotations}}}


def error(code: int, reason: str, message: str = "") -> dict[str, Any]:
    """A refusal as the server sends it inside a watch."""
    content = {"kind": "Status", "metadata": {}, "status": "Failure"}
    return {"type": "ERROR", "object": {**content, "code": code, "reason": reason, "message": message}}


def gone() -> dict[str, Any]:
    return error(410, "Expired", "too old resource version: 1 (2)")
