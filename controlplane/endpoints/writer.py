"""Writes EndpointSlices and Endpoints to the API server, each only if it still is what it was when that was decided.

Called by `makers`. All of it raises `ApiError`; `Conflict` asks to read and decide again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar

import aiohttp
import msgspec

from controlplane.endpoints.objects import Endpoints, EndpointSlice
from controlplane.source.api import Api
from controlplane.source.objects import ListMetadata
from controlplane.source.resource import ApiError, Resource

LIMIT = aiohttp.ClientTimeout(total=30, sock_connect=10)
TERMINATING = "NamespaceTerminating"
T = TypeVar("T", EndpointSlice, Endpoints)
_RANDOM, _PREFIX = 5, 58  # letters that the server adds; what it keeps of a prefix before them


class Listed(msgspec.Struct, Generic[T]):
    items: list[T]
    metadata: ListMetadata


class Conflict(ApiError):
    """The object is another than the one that the write was decided for."""


class Lost(ApiError):
    """This replica is not, or no longer, the one that may write."""


class Writer(Generic[T]):
    """`plural`, `group`: of the resource. `type_`: what its objects are decoded into. `may`: whether to write now."""

    def __init__(
        self,
        api: Api,
        group: str,
        plural: str,
        type_: type[T],
        writes: Counter[tuple[str, str, str]],
        *,
        may: Callable[[], bool],
    ) -> None:
        self._api, self._group, self._plural = api, group, plural
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(type_)
        self._many: msgspec.json.Decoder[Listed[T]] = msgspec.json.Decoder(Listed[type_])  # type: ignore[valid-type]
        self._writes, self._may = writes, may  # by resource, verb and result

    def _at(self, namespace: str, name: str = "") -> Resource:
        return Resource(self._group, "v1", self._plural, namespace=namespace, name=name)

    async def create(self, thing: T) -> T | None:
        """The object as the server has it then. None: its namespace is going or gone, so nothing is needed."""
        place = self._at(thing.metadata.namespace)
        try:
            answer = await self._counted("create", lambda: self._api.post(place, _json(thing), LIMIT))
        except ApiError as error:
            error.args = (_without_name(str(error), thing.metadata.generate_name),)
            raise
        return None if answer is None else self._one.decode(answer)

    async def update(self, thing: T) -> T:
        """As `create`. Raises `Conflict` if it has changed or is gone."""
        meta = thing.metadata
        place = self._at(meta.namespace, meta.name)
        answer = await self._counted("update", lambda: self._api.replace(place, _json(thing), LIMIT))
        return self._one.decode(answer or b"")

    async def delete(self, thing: T) -> None:
        """Deletes this very object in this very version; one that is gone is well. Raises `Conflict`."""
        meta = thing.metadata
        only = {"preconditions": {"uid": meta.uid, "resourceVersion": meta.resource_version}}
        options = {"apiVersion": "v1", "kind": "DeleteOptions", **only}
        place = self._at(meta.namespace, meta.name)
        await self._counted("delete", lambda: self._api.remove(place, options, LIMIT))

    async def _counted(self, verb: str, call: Callable[[], Awaitable[bytes]]) -> bytes | None:
        if not self._may():
            self._writes[self._plural, verb, "withheld"] += 1
            raise Lost("this replica does not hold the Lease any more")
        try:
            answer = await call()
        except ApiError as error:
            result = _result(verb, error)
            self._writes[self._plural, verb, result] += 1
            if result == "conflict":
                raise Conflict(str(error), error.status) from error
            if result == "error":
                raise
            return None
        self._writes[self._plural, verb, "success"] += 1
        return answer

    async def list(self, namespace: str, selector: str) -> tuple[list[T], str]:
        """The objects with these labels, and the version of the list."""
        body = await self._api.fetch(self._at(namespace), {"labelSelector": selector}, LIMIT)
        found = self._many.decode(body)
        return found.items, found.metadata.resource_version

    async def get(self, namespace: str, name: str) -> T | None:
        """The object; None: there is none."""
        try:
            return self._one.decode(await self._api.fetch(self._at(namespace, name), {}, LIMIT, "get"))
        except ApiError as error:
            if error.status == 404:
                return None
            raise


def _without_name(text: str, prefix: str) -> str:
    """The same text for each try: the server makes another name of `prefix` each time (names.SimpleNameGenerator)."""
    return re.sub(rf"{re.escape(prefix[:_PREFIX])}[a-z0-9]{{{_RANDOM}}}\b", f"{prefix}*", text) if prefix else text


def _json(thing: EndpointSlice | Endpoints) -> Any:
    return msgspec.to_builtins(thing)


def _result(verb: str, error: ApiError) -> str:
    """conflict, needless (nothing has to be done any more), or error."""
    if error.status == 409 and TERMINATING not in error.causes:
        return "conflict"
    if error.status == 404:
        return "conflict" if verb == "update" else "needless"
    return "needless" if verb == "create" and TERMINATING in error.causes else "error"
