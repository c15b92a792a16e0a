"""The paths of the page: files without data for everybody, and answers of inspection for who has the right to them.

A browser shows its person's bearer token with each question; there is no cookie, so no other site can ask in the
person's name. Where `--insecure` believes everybody, a question must come from the page itself, under a name that no
other site can have.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from importlib.resources import files
from ipaddress import ip_address
from typing import Any

import msgspec

from controlplane.identity.peer import Refusal
from controlplane.inspection.service import Inspection
from controlplane.page.asking import Caller, Ended, of_refusal, refused
from controlplane.page.history import History
from controlplane.page.http import Request, Response, said
from controlplane.page.live import VIEWERS, Live
from controlplane.page.rows import explanation, has_instead, holders, service_view
from deltaplane.flags import host_port
from deltaplane.http1 import HTML, JSON
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2, views_pb2

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
HEADERS = (
    ("Content-Security-Policy", POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)
TYPES = {".html": HTML, ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8",
         ".svg": "image/svg+xml"}  # fmt: skip
AGAIN = 60.0  # seconds after which a person's right to what is streamed is looked at again
INSTEAD = 10  # nodes that lack a Service, of which it is said what they have
HOLDERS_SECONDS = 1.0  # that nodes have to say that they have a Service
SERVICES = 500  # names that the form offers
ASKED = "/deltaplane.v1.InspectionService/"

May = Callable[[str, str, str], Awaitable[Refusal | None]]
"""Method, token, client -> why not."""


def static() -> dict[str, Response]:
    """The files, by path."""
    folder = files("controlplane.page") / "static"
    found = {f"/{each.name}": each for each in folder.iterdir() if "." + each.name.rpartition(".")[2] in TYPES}
    pages = {path: Response(each.read_bytes(), content_type=TYPES["." + each.name.rpartition(".")[2]])
             for path, each in found.items()}  # fmt: skip
    return pages | {"/": pages["/index.html"]}


class Site:
    """`may`: who may ask what. `open_to_all`: everybody is believed, so it has to be the page that asks."""

    def __init__(self, inspection: Inspection, may: May, *, open_to_all: bool, history: History | None = None) -> None:
        self._inspection, self._may, self._open_to_all = inspection, may, open_to_all
        self._static = static()
        self.live = Live(self._nodes, self._commits, history)
        self._asked: dict[str, tuple[str, Callable[[Request], Awaitable[Response]]]] = {
            "/api/live": ("ListNodes", self._live),
            "/api/services": ("ListObjects", self._services),
            "/api/service": ("GetObject", self._service),
            "/api/holders": ("WaitApplied", self._holders),
            "/api/explain": ("Explain", self._explain),
        }

    async def __call__(self, request: Request) -> Response:
        if request.path in self._static:
            return self._static[request.path]
        if request.path not in self._asked:
            return said(404, "there is no such page")
        if why := foreign(request, open_to_all=self._open_to_all):
            return said(403, why)
        method, answer = self._asked[request.path]
        refusal = await self._refusal(method, request)
        if refusal is not None:
            return of_refusal(refusal)
        try:
            return await answer(request)
        except Ended as error:
            return refused(error.status, str(error))
        except ValueError as error:
            return refused("INVALID_ARGUMENT", str(error))

    async def _refusal(self, method: str, request: Request) -> Refusal | None:
        return await self._may(ASKED + method, token_of(request), request.client)

    # ------------------------------------------------------------ what is asked

    async def _nodes(self) -> pb.ListNodesResponse:
        return await self._inspection.ListNodes(pb.ListNodesRequest(), _caller())

    def _commits(self) -> AsyncIterator[pb.TailCommitsResponse]:
        return self._inspection.TailCommits(pb.TailCommitsRequest(), _caller())

    async def _live(self, request: Request) -> Response:
        refusal = await self._refusal("TailCommits", request)
        if refusal is not None:
            return of_refusal(refusal)
        if len(self.live) >= VIEWERS:
            return refused("RESOURCE_EXHAUSTED", f"{VIEWERS} browsers have the page open, which is as many as may")
        return Response(content_type="text/event-stream", stream=self._while_allowed(request))

    async def _while_allowed(self, request: Request) -> AsyncGenerator[bytes, None]:
        """A token ends, or a right is taken: the stream then ends too."""
        loop = asyncio.get_running_loop()
        due = loop.time() + AGAIN
        async with aclosing(self.live.view()) as events:
            async for part in events:
                if loop.time() >= due:
                    if await self._refusal("ListNodes", request) or await self._refusal("TailCommits", request):
                        return
                    due = loop.time() + AGAIN
                yield part

    async def _services(self, request: Request) -> Response:
        asked = pb.ListObjectsRequest(kind=objects_pb2.KIND_SERVICE, limit=SERVICES)
        found = await self._inspection.ListObjects(asked, _caller(request))
        return _json({"names": [f"{each.key.namespace}/{each.key.name}" for each in found.objects], "more": found.more})

    async def _service(self, request: Request) -> Response:
        asked = pb.GetObjectRequest(key=_key(request))
        return _json(service_view(await self._inspection.GetObject(asked, _caller(request))))

    async def _holders(self, request: Request) -> Response:
        version = pb.ObjectVersion(key=_key(request))
        asked = pb.WaitAppliedRequest(object=version, timeout_seconds=HOLDERS_SECONDS)
        calls: Any = self._inspection.WaitApplied(asked, _caller(request))
        async with aclosing(calls) as answers:
            async for answer in answers:
                if answer.done:
                    return _json(holders(answer, await self._instead(request, answer)))
        return refused("UNAVAILABLE", "the answer broke off")

    async def _instead(self, request: Request, answer: pb.WaitAppliedResponse) -> dict[str, str]:
        """What the first nodes that lack the Service have instead; nothing for who may not ask that."""
        if await self._refusal("ResolveForNode", request):
            return {}
        key, found = _key(request), dict[str, str]()
        for each in answer.lacking[:INSTEAD]:
            asked = pb.ResolveForNodeRequest(node_name=each.node_name, namespace=key.namespace, name=key.name)
            try:
                found[each.node_name] = has_instead(await self._inspection.ResolveForNode(asked, _caller(request)))
            except Ended as error:
                found[each.node_name] = f"not known: {error}"
        return found

    async def _explain(self, request: Request) -> Response:
        query = request.query
        cidrs = [each.strip() for each in query.get("cluster_cidrs", "").split(",") if each.strip()]
        asked = pb.ExplainRequest(
            node_name=_field(request, "node"), connection=connection(request), cluster_cidrs=cidrs
        )
        return _json(explanation(await self._inspection.Explain(asked, _caller(request))))


def connection(request: Request) -> views_pb2.Connection:
    """ADDRESS:PORT or ADDRESS:PORT/PROTOCOL in `to`. Raises ValueError."""
    place, _, protocol = _field(request, "to").partition("/")
    host, port = host_port(place)
    return views_pb2.Connection(source=_field(request, "from"), address=host, port=port, protocol=protocol.upper())


def _key(request: Request) -> objects_pb2.ObjectKey:
    namespace, slash, name = _field(request, "name").rpartition("/")
    return objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace=namespace if slash else "default", name=name)


def _field(request: Request, name: str) -> str:
    """Raises ValueError for a field that is not there."""
    value = request.query.get(name, "").strip()
    if not value:
        raise ValueError(f"{name}: it is missing")
    return value


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), content_type=JSON)


def _caller(request: Request | None = None) -> Any:
    """`None`: the page itself, for all who look."""
    return Caller("" if request is None else request.client)


def token_of(request: Request) -> str:
    """The bearer token; empty: none."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def foreign(request: Request, *, open_to_all: bool) -> str:
    """Why it is not the page that asks; empty: it is, or who asks is no browser."""
    if request.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return "another site asks: only the page itself may"
    if open_to_all and not _own_name(request.headers.get("host", "")):
        return "name this page by its address or as localhost: another site could have any other name"
    return ""


def _own_name(host: str) -> bool:
    """Whether nobody else can have this name for us: DNS may lead any name here (rebinding)."""
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() and not host.endswith("]") else host
    if name.lower() == "localhost":
        return True
    try:
        ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
