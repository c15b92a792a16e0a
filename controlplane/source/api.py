"""The API server as raw JSON streams: transport and credentials of the `kubernetes` package, without its models.

Used by `reflector`; knows no watch semantics. Requests go through `ApiClient` itself: the generated methods
check every argument with pydantic and take no separate connect and read limits. Foreign exceptions become `ApiError`
(worth another try) or `SourceError` (the configuration is unusable) here, once.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from controlplane.errors import SourceError
from controlplane.source.backoff import patience
from controlplane.source.credentials import Credentials
from controlplane.source.objects import Status
from deltaplane.logs import event

log = logging.getLogger(__name__)

UNREACHED = 0
_JSON = {"Content-Type": "application/json"}


class ApiError(SourceError):
    """A request failed; another try may succeed. `status` is the HTTP status; `UNREACHED` without an answer."""

    def __init__(
        self, text: str, status: int = UNREACHED, retry_after: float = 0.0, *, strangers: bool = False
    ) -> None:
        super().__init__(text)
        self.strangers = strangers or status == 401  # one end does not accept the other's credentials
        self.status = status
        self.retry_after = retry_after  # seconds the server asked for, bounded (backoff.patience)

    @property
    def expired(self) -> bool:
        """The version or the continue token is too old: list again (HTTP form of 410)."""
        return self.status == 410

    @property
    def unsupported(self) -> bool:
        """The server answered, and not about us or about the moment: it may not know this form of the request."""
        return self.status not in {UNREACHED, 401, 403, 404, 410, 429}


class Stalled(ApiError):
    """Nothing came for the idle limit: the connection may be half open."""


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection of the API, cluster-wide unless a namespace is named."""

    group: str  # "" is the core group
    version: str
    plural: str
    selector: str = ""  # label selector, evaluated by the server
    optional: bool = False  # a server without it, or one that forbids it, counts as one that has none
    namespace: str = ""

    @property
    def path(self) -> str:
        root = f"/apis/{self.group}" if self.group else "/api"
        place = f"{self.version}/namespaces/{self.namespace}" if self.namespace else self.version
        return f"{root}/{place}/{self.plural}"

    def __str__(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural


class Api:
    """One API server. `origin` says where its address and credentials were taken from, for error texts."""

    def __init__(self, client: Any, credentials: Credentials) -> None:
        self._client = client
        self._credentials = credentials
        self._refreshing = asyncio.Lock()
        self._complaint = ""
        self.origin = credentials.origin
        self.requests: Counter[tuple[str, str, str]] = Counter()  # by verb, resource, and status or "error"

    @property
    def server(self) -> str:
        return str(self._client.configuration.host)

    async def fetch(
        self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout, verb: str = "list"
    ) -> bytes:
        """The whole body of a list, or of one object (`verb` get). Raises `ApiError`."""
        with self._said(verb, resource):
            async with self._exchange(resource, query, timeout) as response:
                if response.status != 200:
                    raise await self._refusal(response, verb, resource)
                return await response.read()

    async def lines(
        self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of a watch, as many at once as have arrived; first an empty list: the server took the watch.

        A line cut off by the end of the stream is dropped: it is sent again. Raises `ApiError`.
        """
        with self._said("watch", resource):
            async with self._exchange(resource, query, timeout) as response:
                if response.status != 200:
                    raise await self._refusal(response, "watch", resource)
                yield []
                rest = b""
                while chunk := await response.content.readany():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if lines:
                        yield [line for line in lines if line.strip()]

    @contextmanager
    def _said(self, verb: str, resource: Resource) -> Iterator[None]:
        """What the transport raises, in our words."""
        try:
            yield
        except TimeoutError as error:
            raise Stalled(f"API server {self.server} said nothing on {verb} of {resource} for too long") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            text = f"cannot {verb} {resource} at API server {self.server}: {reason}; check its address in {self.origin}"
            raise ApiError(text, strangers=_of_tls(error)) from error

    async def create(self, resource: Resource, thing: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> None:
        """Makes an object. Raises `ApiError`."""
        with self._said("create", resource):
            async with self._exchange(resource, {}, timeout, thing) as response:
                if response.status not in {200, 201}:
                    raise await self._refusal(response, "create", resource)

    @asynccontextmanager
    async def _exchange(
        self,
        resource: Resource,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request and its answer, with the credentials as their files are now.

        A transport that was replaced meanwhile ends with its last exchange: a watch that works is not cut off.
        """
        if self._credentials.changed():
            await self.refresh()
        transport = self._client.rest_client
        transport.users += 1
        try:
            async with await self._request(resource, query, timeout, body) as response:
                yield response
        finally:
            transport.users -= 1
            await self._let_go(transport)

    async def _let_go(self, transport: Any) -> None:
        if transport is not self._client.rest_client and not transport.users:
            await transport.close()

    async def _request(
        self,
        resource: Resource,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> aiohttp.ClientResponse:
        parameters = await self._client.param_serialize(
            method="GET" if body is None else "POST",
            resource_path=resource.path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", **({} if body is None else _JSON)},
            body=body,
            auth_settings=["BearerToken"],
        )
        verb = "create" if body is not None else "watch" if "watch" in query else "list"
        try:
            answer = await self._client.call_api(*parameters, _preload_content=False, _request_timeout=timeout)
        except BaseException:
            self.requests[verb, str(resource), "error"] += 1
            raise
        response: aiohttp.ClientResponse = answer.response
        self.requests[verb, str(resource), str(response.status)] += 1
        return response

    async def _refusal(self, response: aiohttp.ClientResponse, verb: str, resource: Resource) -> ApiError:
        status = decode_status(await response.read())
        wait = response.headers.get("Retry-After", "")
        details = status.details.retry_after_seconds if status.details else None
        seconds = patience(wait, details, datetime.now(UTC))
        text = f"{self._advice(response.status, verb, resource)}{f' ({status.message})' if status.message else ''}"
        return ApiError(text, response.status, seconds)

    def _advice(self, status: int, verb: str, resource: Resource) -> str:
        what = f"{verb} of {resource} at API server {self.server}"
        if status == 401:
            return f"{what}: 401, the credentials in {self.origin} are not accepted: renew the token or certificate"
        if status == 403:
            group = resource.group or '""'
            verbs = verb if verb in {"create", "get"} else "get, list and watch"
            rule = f"{verbs} on {resource.plural} in API group {group}"
            return f"{what}: 403, permission is missing: grant {rule}, cluster-wide, to the account of {self.origin}"
        if status == 404:
            return f"{what}: 404, the server does not serve {resource.path}: check its address in {self.origin}"
        return f"{what}: HTTP status {status}"

    async def refresh(self) -> None:
        """Reads the credentials again (a rotated token, certificate or CA); keeps the old ones if that fails."""
        async with self._refreshing:
            try:
                configuration = await self._credentials.load()
                old, new = (
                    self._client.rest_client,
                    self._credentials.transport(configuration, self._client.rest_client),
                )
            except SourceError as error:
                if str(error) != self._complaint:
                    event(log, logging.WARNING, "credentials stay as they were", reason=error)
                self._complaint = str(error)
                return
            self._complaint = ""
            self._client.configuration, self._client.rest_client = configuration, new
            if new is not old:
                event(log, logging.INFO, "credentials changed", origin=self.origin)
                await self._let_go(old)

    async def close(self) -> None:
        await self._client.close()


def _of_tls(error: BaseException | None) -> bool:
    """Whether the two ends could not agree who they are."""
    while error is not None:
        if isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)):
            return True
        error = error.__cause__ or getattr(error, "os_error", None)
    return False


def decode_status(body: bytes) -> Status:
    """The server's own words; empty when the body is something else (a proxy's page)."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Status()


async def connect(kubeconfig: str | None) -> Api:
    """An `Api` from a kubeconfig file, or from the Pod's ServiceAccount. No request is made. Raises `SourceError`."""
    from kubernetes.aio.client import ApiClient

    credentials = Credentials(kubeconfig)
    configuration = await credentials.load()
    transport = credentials.transport(configuration)
    client = ApiClient(configuration)
    client.rest_client = transport
    return Api(client, credentials)
