"""The API server as raw JSON streams: transport and credentials of the `kubernetes` package, without its models.

It knows no watch semantics. Requests go through `ApiClient` itself: the generated methods check every argument with
pydantic and have no separate connect and read limits. Foreign exceptions become `ApiError` (another try may succeed) or
`SourceError` (the configuration is unusable) here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import aiohttp
import msgspec

from controlplane.errors import SourceError
from controlplane.source.credentials import Credentials
from controlplane.source.objects import Status
from controlplane.source.resource import ApiError, Resource, Stalled
from controlplane.source.retry_after import patience
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

_JSON = {"Content-Type": "application/json"}
_PATCH = {"Content-Type": "application/strategic-merge-patch+json"}
_METHODS = {"create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
_UNAUTHORIZED = re.compile(r'User ".*" cannot ')  # k8s.io/apiserver responsewriters/errors.go, forbiddenMessage
_ALONE = frozenset({"create", "get", "update", "patch", "delete"})  # verbs that are granted without others


class Api:
    """One API server. `origin` says where its address and credentials come from, for error texts."""

    def __init__(self, client: Any, credentials: Credentials) -> None:
        self._client = client
        self._credentials = credentials
        self._refreshing = asyncio.Lock()
        self._said = Once[str]()
        self.origin = credentials.origin
        self.requests: Counter[tuple[str, str, str]] = Counter()  # by verb, resource, and status or "error"

    @property
    def server(self) -> str:
        return str(self._client.configuration.host)

    @property
    def transport(self) -> Any:
        """The connections for new requests (`transport.Transport`)."""
        return self._client.rest_client

    async def fetch(
        self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout, verb: str = "list"
    ) -> bytes:
        """The whole body of a list, or of one object (`verb` get). Raises `ApiError`."""
        with self._translating(verb, resource):
            async with self._exchange(verb, resource, query, timeout) as response:
                if response.status != 200:
                    raise await self._refusal(response, verb, resource)
                return await response.read()

    async def lines(
        self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of a watch, in lists of those that arrived together. The first list is empty: the watch began.

        A line that the end of the stream cuts off is dropped; the next watch repeats it. Raises `ApiError`.
        """
        with self._translating("watch", resource):
            async with self._exchange("watch", resource, query, timeout) as response:
                if response.status != 200:
                    raise await self._refusal(response, "watch", resource)
                yield []
                rest = b""
                while chunk := await response.content.readany():
                    *lines, rest = (rest + chunk).split(b"\n")
                    if lines:
                        yield [line for line in lines if line.strip()]

    @contextmanager
    def _translating(self, verb: str, resource: Resource) -> Iterator[None]:
        """Translates what the transport raises into `ApiError`."""
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
        await self.post(resource, thing, timeout)

    async def post(self, resource: Resource, thing: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> bytes:
        """Makes an object, and gives it as the server has it then. Raises `ApiError`."""
        return await self._send("create", resource, thing, timeout)

    async def replace(self, resource: Resource, thing: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> bytes:
        """Replaces the object that `resource` names, if it still has `thing`'s resourceVersion. Raises `ApiError`."""
        return await self._send("update", resource, thing, timeout)

    async def patch(self, resource: Resource, change: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> bytes:
        """Changes the object that `resource` names by a strategic merge patch. Raises `ApiError`."""
        return await self._send("patch", resource, change, timeout)

    async def remove(self, resource: Resource, options: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> bytes:
        """Deletes the object that `resource` names. `options`: meta/v1 DeleteOptions. Raises `ApiError`."""
        return await self._send("delete", resource, options, timeout)

    async def _send(
        self, verb: str, resource: Resource, thing: Mapping[str, Any], timeout: aiohttp.ClientTimeout
    ) -> bytes:
        with self._translating(verb, resource):
            async with self._exchange(verb, resource, {}, timeout, thing) as response:
                if response.status not in {200, 201, 202}:
                    raise await self._refusal(response, verb, resource)
                return await response.read()

    @asynccontextmanager
    async def _exchange(
        self,
        verb: str,
        resource: Resource,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request and its answer, with the current credentials.

        A replaced transport closes after its last exchange, so a running watch is not interrupted.
        """
        if self._credentials.changed():
            await self.refresh()
        transport = self.transport
        transport.users += 1
        try:
            async with await self._request(verb, resource, query, timeout, body) as response:
                yield response
        finally:
            transport.users -= 1
            await self._let_go(transport)

    async def _let_go(self, transport: Any) -> None:
        if transport is not self._client.rest_client and not transport.users:
            await transport.close()

    async def _request(
        self,
        verb: str,
        resource: Resource,
        query: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,
        body: Mapping[str, Any] | None = None,
    ) -> aiohttp.ClientResponse:
        parameters = await self._client.param_serialize(
            method=_METHODS.get(verb, "GET"),
            resource_path=resource.path,
            query_params=list(query.items()),
            header_params={"Accept": "application/json", **_kind_of(verb, body)},
            body=body,
            auth_settings=["BearerToken"],
        )
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
        advice = self._advice(response.status, verb, resource, status.message or "")
        text = f"{advice}{f' ({status.message})' if status.message else ''}"
        causes = (status.details.causes if status.details else None) or ()
        return ApiError(text, response.status, seconds, causes=frozenset(cause.reason for cause in causes))

    def _advice(self, status: int, verb: str, resource: Resource, message: str) -> str:
        what = f"{verb} of {resource} at API server {self.server}"
        if status == 401:
            return f"{what}: 401, the credentials in {self.origin} are not accepted: renew the token or certificate"
        if status == 403 and _of_admission(message):
            return f"{what}: 403, its admission (a quota, a policy, a webhook) refuses this object; no right lacks"
        if status == 403:
            group = resource.group or '""'
            verbs = verb if verb in _ALONE else "get, list and watch"
            where = f"in namespace {resource.namespace}" if resource.namespace else "cluster-wide"
            rule = f"{verbs} on {resource.plural} in API group {group}"
            return f"{what}: 403, permission is missing: grant {rule}, {where}, to the account of {self.origin}"
        if status == 404:
            return f"{what}: 404, the server does not serve {resource.path}: check its address in {self.origin}"
        return f"{what}: HTTP status {status}"

    async def refresh(self) -> None:
        """Reads the credentials again (a token, certificate or CA has rotated). Keeps the old ones if that fails."""
        async with self._refreshing:
            try:
                configuration = await self._credentials.load()
                old, new = self.transport, self._credentials.transport(configuration, self.transport)
            except SourceError as error:
                if self._said.note("credentials", str(error)):
                    event(log, logging.WARNING, "credentials stay as they were", reason=error)
                return
            self._said.clear("credentials")
            self._client.configuration, self._client.rest_client = configuration, new
            if new is not old:
                event(log, logging.INFO, "credentials changed", origin=self.origin)
                await self._let_go(old)

    async def close(self) -> None:
        await self._client.close()


def _of_admission(message: str) -> bool:
    """Whether a 403 comes from admission, which looks at objects, by its text; authorization names user and verb."""
    if _UNAUTHORIZED.search(message):
        return False
    return "is forbidden: " in message or "denied the request" in message


def _kind_of(verb: str, body: Mapping[str, Any] | None) -> Mapping[str, str]:
    """The header that says what the body is."""
    if body is None:
        return {}
    return _PATCH if verb == "patch" else _JSON


def _of_tls(error: BaseException | None) -> bool:
    """Whether the error is one of TLS."""
    while error is not None:
        if isinstance(error, (ssl.SSLError, aiohttp.ClientSSLError)):
            return True
        error = error.__cause__ or getattr(error, "os_error", None)
    return False


def decode_status(body: bytes) -> Status:
    """The Status in the body; empty if the body is something else (a proxy's page)."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Status()


async def connect(kubeconfig: str | None) -> Api:
    """An `Api` from a kubeconfig file, or from the Pod's ServiceAccount. No request is made. Raises `SourceError`."""
    from controlplane.source.kubernetes_package import ApiClient

    credentials = Credentials(kubeconfig)
    configuration = await credentials.load()
    transport = credentials.transport(configuration)
    client = ApiClient(configuration)
    client.rest_client = transport
    return Api(client, credentials)
