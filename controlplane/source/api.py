"""The API server as raw JSON streams: transport and credentials of the `kubernetes` package, without its models.

Used by `reflector`; knows no watch semantics. Requests go through `ApiClient` itself: the generated methods
check every argument with pydantic and take no separate connect and read limits. Foreign exceptions become `ApiError`
(worth another try) or `SourceError` (the configuration is unusable) here, once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import msgspec
import yaml

from controlplane.errors import SourceError
from controlplane.source.backoff import patience
from controlplane.source.objects import Status

UNREACHED = 0
_JSON = {"Content-Type": "application/json"}


class ApiError(SourceError):
    """A request failed; another try may succeed. `status` is the HTTP status; `UNREACHED` without an answer."""

    def __init__(self, text: str, status: int = UNREACHED, retry_after: float = 0.0) -> None:
        super().__init__(text)
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

    def __init__(self, client: Any, origin: str, kubeconfig: str | None = None) -> None:
        self._client = client
        self._kubeconfig = kubeconfig
        self.origin = origin

    @property
    def server(self) -> str:
        return str(self._client.configuration.host)

    async def fetch(self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout) -> bytes:
        """The whole body of a list. Raises `ApiError`."""
        with self._said("list", resource):
            response = await self._request(resource, query, timeout)
            async with response:
                if response.status != 200:
                    raise await self._refusal(response, "list", resource)
                return await response.read()

    async def lines(
        self, resource: Resource, query: Mapping[str, str], timeout: aiohttp.ClientTimeout
    ) -> AsyncGenerator[list[bytes], None]:
        """The lines of a watch, as many at once as have arrived; first an empty list: the server took the watch.

        A line cut off by the end of the stream is dropped: it is sent again. Raises `ApiError`.
        """
        with self._said("watch", resource):
            response = await self._request(resource, query, timeout)
        async with response:
            if response.status != 200:
                with self._said("watch", resource):
                    raise await self._refusal(response, "watch", resource)
            yield []
            rest = b""
            while True:
                with self._said("watch", resource):
                    chunk = await response.content.readany()
                if not chunk:
                    return
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
            raise ApiError(
                f"cannot {verb} {resource} at API server {self.server}: {reason}; check its address in {self.origin}"
            ) from error

    async def create(self, resource: Resource, thing: Mapping[str, Any], timeout: aiohttp.ClientTimeout) -> None:
        """Makes an object. Raises `ApiError`."""
        with self._said("create", resource):
            response = await self._request(resource, {}, timeout, thing)
            async with response:
                if response.status not in {200, 201}:
                    raise await self._refusal(response, "create", resource)

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
        answer = await self._client.call_api(*parameters, _preload_content=False, _request_timeout=timeout)
        response: aiohttp.ClientResponse = answer.response
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
            verbs = "create" if verb == "create" else "get, list and watch"
            rule = f"{verbs} on {resource.plural} in API group {group}"
            return f"{what}: 403, permission is missing: grant {rule}, cluster-wide, to the account of {self.origin}"
        if status == 404:
            return f"{what}: 404, the server does not serve {resource.path}: check its address in {self.origin}"
        return f"{what}: HTTP status {status}"

    async def refresh(self) -> None:
        """Reads the credentials again (a rotated token); keeps the old ones if that fails."""
        try:
            await _load(self._client.configuration, self._kubeconfig)
        except SourceError:
            return

    async def close(self) -> None:
        await self._client.close()


def decode_status(body: bytes) -> Status:
    """The server's own words; empty when the body is something else (a proxy's page)."""
    try:
        return msgspec.json.decode(body, type=Status)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Status()


async def connect(kubeconfig: str | None) -> Api:
    """An `Api` from a kubeconfig file, or from the Pod's ServiceAccount. No request is made. Raises `SourceError`."""
    from kubernetes.aio.client import ApiClient, Configuration

    from controlplane.source.transport import Transport

    origin = f"kubeconfig {kubeconfig}" if kubeconfig else "the Pod's ServiceAccount"
    configuration = Configuration()
    await _load(configuration, kubeconfig)
    parts = urlsplit(configuration.host)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise SourceError(f"{origin}: server {configuration.host!r} is not an http or https address: correct it")
    try:
        client = ApiClient(configuration)
        client.rest_client = Transport(configuration)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SourceError(f"{origin}: its certificates cannot be used: {error}") from error
    return Api(client, origin, kubeconfig)


async def _load(configuration: Any, kubeconfig: str | None) -> None:
    from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

    try:
        if kubeconfig is None:
            load_incluster_config(client_configuration=configuration)
            return
        await asyncio.to_thread(_check_file, kubeconfig)
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
    except ConfigException as error:
        advice = f"kubeconfig {kubeconfig} is not usable" if kubeconfig else "not in a Pod; give --kubeconfig=FILE"
        raise SourceError(f"{advice}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        needs = "its current context must name a cluster and a user"
        raise SourceError(f"kubeconfig {kubeconfig} is not usable, {needs}: {error!r}") from error
    token = configuration.api_key.get("BearerToken")
    if token:
        configuration.api_key["BearerToken"] = token.strip()  # a token file's last newline is no part of the header


def _check_file(kubeconfig: str) -> None:
    """Says what the library says badly or not at all."""
    try:
        content = yaml.safe_load(Path(kubeconfig).read_text())
    except OSError as error:
        raise SourceError(f"cannot read kubeconfig {kubeconfig}: {error.strerror}: check --kubeconfig") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise SourceError(f"kubeconfig {kubeconfig} is not YAML: {reason}") from error
    if not isinstance(content, dict) or not content.get("clusters"):
        raise SourceError(f"kubeconfig {kubeconfig} has no clusters: check --kubeconfig")
