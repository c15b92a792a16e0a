"""An API server in memory, with the methods of `controlplane.source.api.Api`: names, versions, conflicts, failures."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

from controlplane.source.resource import ApiError, Resource

Object = dict[str, Any]


class Server:
    """`failing`: raised by the next write, once, before it is done; `late`: likewise, but after it is done.

    `refuses`: which objects an admission policy lets nobody create or update, and which paths nobody
    may delete, for good.
    """

    server = "memory"

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.writes: list[tuple[str, str]] = []
        self.failing: list[ApiError] = []
        self.late: list[ApiError] = []
        self.refuses: Callable[[Mapping[str, Any]], bool] = lambda _: False
        self.keeps: Callable[[str], bool] = lambda _: False
        self.refusals = 0
        self.version = 100
        self.reads = 0

    def list(self, plural: str) -> list[Object]:
        return [thing for path, thing in sorted(self.objects.items()) if f"/{plural}/" in path]

    def put(self, path: str, thing: Object) -> Object:
        """Writes as somebody else."""
        self.version += 1
        meta = thing["metadata"] | {"resourceVersion": str(self.version)}
        meta.setdefault("uid", f"uid-{self.version}")
        self.objects[path] = json.loads(json.dumps(thing | {"metadata": meta}))
        return self.objects[path]

    async def fetch(self, resource: Resource, query: Mapping[str, str], timeout: Any, verb: str = "list") -> bytes:
        await asyncio.sleep(0)
        self.reads += 1
        if verb == "get":
            if resource.path not in self.objects:
                raise ApiError("not found", 404)
            return json.dumps(self.objects[resource.path]).encode()
        wanted = [part.split("=") for part in query.get("labelSelector", "").split(",") if part]
        items = [
            thing
            for path, thing in self.objects.items()
            if path.startswith(f"{resource.path}/")
            and all(thing["metadata"].get("labels", {}).get(key) == value for key, value in wanted)
        ]
        return json.dumps({"metadata": {"resourceVersion": str(self.version)}, "items": items}).encode()

    async def post(self, resource: Resource, thing: Mapping[str, Any], timeout: Any) -> bytes:
        await self._begin("create", resource, thing)
        meta = thing["metadata"]
        name = meta.get("name") or f"{meta['generateName']}{self.version}"
        path = f"{resource.path}/{name}"
        if path in self.objects:
            raise ApiError("exists", 409)
        return self._answer(self.put(path, dict(thing) | {"metadata": meta | {"name": name}}))

    async def replace(self, resource: Resource, thing: Mapping[str, Any], timeout: Any) -> bytes:
        await self._begin("update", resource, thing)
        self._check(resource, thing["metadata"].get("resourceVersion"))
        return self._answer(self.put(resource.path, dict(thing)))

    async def remove(self, resource: Resource, options: Mapping[str, Any], timeout: Any) -> bytes:
        await self._begin("delete", resource)
        if self.keeps(resource.path):
            raise ApiError("denied by a policy", 403)
        self._check(resource, options["preconditions"]["resourceVersion"])
        return self._answer(self.objects.pop(resource.path))

    async def _begin(self, verb: str, resource: Resource, thing: Mapping[str, Any] | None = None) -> None:
        await asyncio.sleep(0)
        if thing is not None and self.refuses(thing):
            self.refusals += 1
            meta = thing["metadata"]
            name = meta.get("name") or f"{meta['generateName'][:58]}{self.refusals:05}"
            raise ApiError(f'"{name}" is denied by a policy', 422)
        if self.failing:
            raise self.failing.pop(0)
        self.writes.append((verb, resource.plural))

    def _check(self, resource: Resource, version: str | None) -> None:
        there = self.objects.get(resource.path)
        if there is None:
            raise ApiError("not found", 404)
        if version and there["metadata"]["resourceVersion"] != version:
            raise ApiError("conflict", 409)

    def _answer(self, thing: Object) -> bytes:
        if self.late:
            raise self.late.pop(0)
        return json.dumps(thing).encode()
