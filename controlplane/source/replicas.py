"""The endpoints of a headless Service, asked of the API server when they are needed: where the replicas are."""

from __future__ import annotations

from collections import Counter

import aiohttp
import msgspec

from controlplane.errors import SourceError
from controlplane.replica_places import Unfound
from controlplane.source.connection import Connection
from controlplane.source.resource import Resource

LIMIT = aiohttp.ClientTimeout(total=5)
PORT = "grpc"  # the name of the port at which replicas answer


class _Endpoint(msgspec.Struct):
    addresses: tuple[str, ...] = ()


class _Port(msgspec.Struct):
    name: str | None = None
    port: int | None = None


class _Slice(msgspec.Struct):
    endpoints: tuple[_Endpoint, ...] | None = None
    ports: tuple[_Port, ...] | None = None


class _List(msgspec.Struct):
    items: tuple[_Slice, ...] = ()


class Replicas:
    """Connects when it is first asked, with the control plane's own credentials."""

    def __init__(self, kubeconfig: str | None, requests: Counter[tuple[str, str, str]]) -> None:
        self._connection = Connection(kubeconfig, requests)

    async def of(self, namespace: str, name: str) -> list[tuple[str, int]]:
        """Address and port of each endpoint, ready or not: one that is starting is named as one that does not answer.

        Raises `Unfound`.
        """
        selector = f"kubernetes.io/service-name={name}"
        resource = Resource("discovery.k8s.io", "v1", "endpointslices", namespace=namespace)
        try:
            api = await self._connection.api()
            body = await api.fetch(resource, {"labelSelector": selector}, LIMIT)
            found = msgspec.json.decode(body, type=_List)
        except (SourceError, msgspec.MsgspecError) as error:
            raise Unfound(f"--replicas=service:{namespace}/{name}: {error}") from error
        return [place for each in found.items for place in _places(each)]

    async def close(self) -> None:
        """Ends the connections."""
        await self._connection.close()


def _places(each: _Slice) -> list[tuple[str, int]]:
    ports = [port.port for port in each.ports or () if port.name == PORT and port.port]
    hosts = [address for endpoint in each.endpoints or () for address in endpoint.addresses[:1]]
    return [(host, ports[0]) for host in hosts] if ports else []
