"""Brings one Service's EndpointSlices, or its Endpoints, to what its Pods are. Called by `controller` for each Service.

A maker decides by the pure core (`slicing`, `core_endpoints`) and writes by `writer`; what a write returns is known at
once. After a conflict it reads what is there, and raises, so that the Service is decided again. What the API server
refuses for one slice (an admission policy, a quota) is raised when the others have been written.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from msgspec.structs import replace

from controlplane.endpoints.core_endpoints import MANAGED_BY as ENDPOINTS_MANAGED_BY
from controlplane.endpoints.core_endpoints import MANAGER as ENDPOINTS_MANAGER
from controlplane.endpoints.core_endpoints import desired
from controlplane.endpoints.known import Known
from controlplane.endpoints.objects import Endpoints, EndpointSlice, ObjectMeta
from controlplane.endpoints.slicing import MANAGED_BY, SERVICE_NAME, Write, loses, plan
from controlplane.endpoints.triggers import Triggers, annotated
from controlplane.endpoints.values import Name
from controlplane.endpoints.writer import Conflict, Writer
from controlplane.source.resource import ApiError


class Maker(Protocol):
    """What `controller` runs for each Service."""

    async def sync(self, name: Name) -> None:
        """Brings what is made of the Service up to date. Raises `ApiError`."""


class SliceMaker:
    """Makes EndpointSlices."""

    def __init__(self, known: Known, writer: Writer[EndpointSlice]) -> None:
        self._known, self._writer = known, writer
        self._triggers = Triggers()

    async def sync(self, name: Name) -> None:
        service = self._known.services.get(name)
        slices = self._known.slices_of(name)
        if service is None:
            self._triggers.forget(name)
            await self._write(name, (Write(one, None) for one in slices), 0)
        elif service.managed:
            pods = self._known.pods_of(service)
            moment, seen = self._triggers.look(service, pods)
            cluster = self._known.cluster if service.topology_mode else ()
            writes = plan(service, pods, self._known.node, slices, cluster, manager=self._known.manager)
            await self._write(name, writes, moment)
            self._triggers.note(name, seen)

    async def _write(self, name: Name, writes: Iterable[Write], moment: int) -> None:
        """Writes what can be written: a slice that is refused holds up no other one of the Service."""
        refused: list[tuple[Write, ApiError]] = []
        for write in writes:
            if any(loses(write, other) for other, _ in refused):
                continue
            try:
                await self._one(write, moment)
            except ApiError as error:
                if not error.of_object:
                    raise
                refused.append((write, error))
        errors = [error for _, error in refused]
        if any(isinstance(error, Conflict) for error in errors):
            await self._read(name)
        if errors:
            raise next((error for error in errors if not isinstance(error, Conflict)), errors[0])

    async def _one(self, write: Write, moment: int) -> None:
        if write.after is None:
            if write.before is not None:
                await self._writer.delete(write.before)
                self._known.deleted(write.before)
            return
        meta = write.after.metadata
        after = replace(write.after, metadata=replace(meta, annotations=annotated(meta.annotations, moment)))
        made = await (self._writer.create(after) if write.before is None else self._writer.update(after))
        if made is not None:
            self._known.set_slice(_name(made.metadata), made)

    async def _read(self, name: Name) -> None:
        """Reads the Service's slices as they are now: the watch may be late."""
        namespace, service = name
        selector = f"{SERVICE_NAME}={service},{MANAGED_BY}={self._known.manager}"
        items, version = await self._writer.list(namespace, selector)
        listed = [_name(one.metadata) for one in items]
        mine = [_name(one.metadata) for one in self._known.slices_of(name)]
        for gone in self._known.absent_slices(listed, version, mine):
            self._known.set_slice(gone, None)
        for one in items:
            self._known.set_slice(_name(one.metadata), one)


class EndpointsMaker:
    """Makes Endpoints."""

    def __init__(self, known: Known, writer: Writer[Endpoints]) -> None:
        self._known, self._writer = known, writer
        self._triggers = Triggers()

    async def sync(self, name: Name) -> None:
        service = self._known.services.get(name)
        try:
            if service is None:
                self._triggers.forget(name)
                await self._delete(self._known.endpoints.get(name))
            elif service.managed:
                await self._make(name)
        except Conflict:
            self._known.set_endpoints(name, await self._writer.get(*name))
            raise

    async def _delete(self, before: Endpoints | None) -> None:
        """Deletes what was made here; what others made stays."""
        if before is None or (before.metadata.labels or {}).get(ENDPOINTS_MANAGED_BY) != ENDPOINTS_MANAGER:
            return
        await self._writer.delete(before)
        self._known.set_endpoints(_name(before.metadata), None)

    async def _make(self, name: Name) -> None:
        service, before = self._known.services[name], self._known.endpoints.get(name)
        pods = self._known.pods_of(service)
        moment, seen = self._triggers.look(service, pods)
        after = desired(service, pods, before)
        if after is not None and not (service.deleting and before is None):
            meta = after.metadata
            after = replace(after, metadata=replace(meta, annotations=annotated(meta.annotations, moment)))
            made = await (self._writer.create(after) if before is None else self._writer.update(after))
            if made is not None:
                self._known.set_endpoints(name, made)
        self._triggers.note(name, seen)


def _name(meta: ObjectMeta) -> Name:
    return (meta.namespace, meta.name)
