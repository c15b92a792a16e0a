"""Objects of one namespace at the API server, read and written whole. Called by `keeper`."""

from __future__ import annotations

from typing import Any

import aiohttp
import msgspec

from controlplane.certificates.stored import CONFIG_MAP, LEASE, SECRET, Object
from controlplane.source.connection import Connection
from controlplane.source.resource import ApiError, Resource
from deltaplane.names import shown

LIMIT = aiohttp.ClientTimeout(total=10)
MISSING, CONFLICT = 404, 409
KINDS = {SECRET: ("", "v1", "secrets"), CONFIG_MAP: ("", "v1", "configmaps"),
         LEASE: ("coordination.k8s.io", "v1", "leases")}  # fmt: skip  # the Lease is `controlplane.lease`'s


class Lost(Exception):
    """Another has written the object meanwhile, or made or deleted it."""


class Objects:
    """Connects when first used."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        self.namespace = namespace
        self._connection = connection

    async def get(self, name: str) -> Object | None:
        """The object as it is now; None: there is none. Raises `ApiError`."""
        api = await self._connection.api()
        try:
            return _object(await api.fetch(self._named(name), {}, LIMIT, "get"), name)
        except ApiError as error:
            if error.status == MISSING:
                return None
            raise

    async def write(self, name: str, thing: Object) -> None:
        """Makes it, or replaces it if it is still of the version that was read. Raises `Lost` and `ApiError`."""
        api = await self._connection.api()
        try:
            if "resourceVersion" in thing["metadata"]:
                await api.replace(self._named(name), thing, LIMIT)
            else:
                await api.create(Resource(*KINDS[name], namespace=self.namespace), thing, LIMIT)
        except ApiError as error:
            if error.status == CONFLICT or (error.status == MISSING and "resourceVersion" in thing["metadata"]):
                raise Lost from error
            raise

    def _named(self, name: str) -> Resource:
        group, version, plural = KINDS[name]
        return Resource(group, version, f"{plural}/{name}", namespace=self.namespace)

    async def close(self) -> None:
        """Ends the connections."""
        await self._connection.close()


def _object(body: bytes, name: str) -> Object:
    try:
        found: Object = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ApiError(f"the API server's answer for {name} is no object: {shown(str(error))}") from error
    if not isinstance(found.get("metadata"), dict):
        raise ApiError(f"the API server's answer for {name} is no object: it has no metadata")
    return found
