"""Which of several replicas may do what only one may: a Lease (coordination.k8s.io/v1), by its name.

    lease = Lease(connection.api, "deltaplane-system", "deltaplane-certificates", me())
    if await lease.take():  # for one write: `controlplane.certificates`
        ...
        await lease.leave()
    await Term(lease).run(work)  # for as long as it can be kept: `controlplane.term`

Follows client-go's tools/leaderelection: the holder renews; another takes over once the record has not changed for the
Lease's duration, by its own clock, so that clocks need not agree. A holder counts itself as one for a shorter time
(`valid`), by a clock that goes on while the process, or the machine, is stopped.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import aiohttp
import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from controlplane.source.api import Api
from controlplane.source.resource import ApiError, Resource
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

MISSING, CONFLICT = 404, 409
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
NAMESPACE = "deltaplane-system"  # where no Pod says which


def boottime() -> float:
    """Seconds that go on while the machine sleeps (CLOCK_BOOTTIME, clock_gettime(2))."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Times(Struct, frozen=True):
    """Seconds, as client-go's defaults. `duration` > `deadline` > `period`."""

    duration: float = 15.0  # for which a record that does not change is believed
    deadline: float = 10.0  # after which a holder that could not renew gives up
    period: float = 2.0  # between two tries


class Metadata(Struct, rename="camel", omit_defaults=True):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None


class Spec(Struct, frozen=True, rename="camel"):
    holder_identity: str | None = None
    lease_duration_seconds: int | None = None
    acquire_time: str | None = None
    renew_time: str | None = None
    lease_transitions: int | None = None


class Record(Struct, rename="camel"):
    metadata: Metadata
    spec: Spec = field(default_factory=Spec)
    api_version: str = "coordination.k8s.io/v1"
    kind: str = "Lease"


class Lease:
    """`held` says whether this replica holds it; `holder` who does, as last seen; `losses` how often it was lost.

    `api`: the way to the API server, once it is needed.
    """

    def __init__(
        self,
        api: Callable[[], Awaitable[Api]],
        namespace: str,
        name: str,
        me: str,
        *,
        times: Times | None = None,
        clock: Callable[[], float] = boottime,
    ) -> None:
        self.name, self.held, self.holder, self.losses = name, False, "", 0
        self.me, self.times, self.clock = me, times or Times(), clock
        self._api, self._namespace = api, namespace
        self._seen: Record | None = None
        self._since = 0.0  # when the record was seen to change
        self._end = 0.0  # when this replica no longer counts itself as the holder
        self._said = Once[str]()
        self._limit = aiohttp.ClientTimeout(total=max(1.0, self.times.deadline / 2))

    @property
    def valid(self) -> bool:
        """Whether this replica may write now: nobody else can hold it yet."""
        return self.held and self.clock() < self._end

    @property
    def others(self) -> bool:
        """Another is its holder, as last seen; it may have died since."""
        return self.holder not in {"", self.me}

    @property
    def left(self) -> float:
        """Seconds for which another counts as the holder, unless it renews; 0: nobody else does."""
        seconds = 0 if self._seen is None else self._seen.spec.lease_duration_seconds or 0
        return max(0.0, self._since + seconds - self.clock()) if self.others else 0.0

    async def take(self, limit: float = inf) -> bool:
        """One try to get or keep it, for `limit` seconds at most; whether this replica has it now. Raises `ApiError`.

        Says who holds it, and until when, where another does.
        """
        began = self.clock()
        try:
            async with asyncio.timeout(min(limit, self.times.deadline / 2)):
                self.held = await self._claim()
        except TimeoutError as error:
            raise ApiError("no answer in time") from error
        except ApiError as error:
            if error.status != CONFLICT:
                raise
            self._seen = None  # somebody was faster: the next try reads what there is
            return False
        if self.held:
            self._end = began + self.times.deadline
            self._said.clear(self.name)
        else:
            self._tell()
        return self.held

    def _tell(self) -> None:
        silent = self.clock() - self._since > 2 * self.times.period
        if not self._said.note(self.name, f"{self.holder} {silent}"):
            return
        until = (datetime.now(UTC) + timedelta(seconds=self.left)).strftime("%Y-%m-%dT%H:%M:%SZ")
        text = "the lease's holder does not renew it" if silent else "another replica holds the lease"
        level = logging.WARNING if silent else logging.INFO
        event(log, level, text, lease=self.name, holder=self.holder, until=until, seconds=f"{self.left:.0f}")

    async def _claim(self) -> bool:
        record = await self._read()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if record is None:
            spec = Spec(self.me, round(self.times.duration), now, now, 0)
            self._note(await self._create(Record(Metadata(self.name, self._namespace), spec)))
            return True
        self._note(record)
        if self.left:
            return False
        mine = record.spec.holder_identity == self.me
        transitions = (record.spec.lease_transitions or 0) + (not mine)
        spec = Spec(self.me, round(self.times.duration), record.spec.acquire_time if mine else now, now, transitions)
        self._note(await self._update(replace(record, spec=spec)))
        return True

    def _note(self, record: Record) -> None:
        if self._seen is None or self._seen.spec != record.spec:
            self._since = self.clock()
        self._seen, self.holder = record, record.spec.holder_identity or ""

    async def leave(self) -> None:
        """Gives it back, so that another need not wait. Never fatal."""
        held, self.held = self.held, False
        if self._seen is None or not held:
            return
        with suppress(ApiError, TimeoutError):
            async with asyncio.timeout(self.times.period):
                spec = replace(self._seen.spec, holder_identity="", lease_duration_seconds=1)
                self._note(await self._update(replace(self._seen, spec=spec)))
                event(log, logging.INFO, "lease given back", lease=self.name)

    # ------------------------------------------------------------ requests

    def _at(self, name: str = "") -> Resource:
        return Resource("coordination.k8s.io", "v1", "leases", namespace=self._namespace, name=name)

    async def _read(self) -> Record | None:
        """The record as it is; the holder itself knows it, unless another has written."""
        if self.held and self._seen is not None:
            return self._seen
        try:
            body = await (await self._api()).fetch(self._at(self.name), {}, self._limit, "get")
        except ApiError as error:
            if error.status == MISSING:
                return None
            raise
        return _decode(body)

    async def _create(self, record: Record) -> Record:
        api = await self._api()
        return _decode(await api.post(self._at(), msgspec.to_builtins(record), self._limit))

    async def _update(self, record: Record) -> Record:
        api = await self._api()
        try:
            return _decode(await api.replace(self._at(self.name), msgspec.to_builtins(record), self._limit))
        except ApiError as error:
            if error.status == MISSING:  # it was deleted meanwhile
                raise ApiError(str(error), CONFLICT) from error
            raise


def _decode(body: bytes) -> Record:
    try:
        return msgspec.json.decode(body, type=Record)
    except msgspec.DecodeError as error:
        raise ApiError(f"the Lease cannot be read: {error}", 500) from error


def me() -> str:
    """A name for this process that no other has."""
    return f"{socket.gethostname()}_{uuid.uuid4()}"


def home(file: Path = NAMESPACE_FILE) -> str:
    """The namespace of this Pod, else `NAMESPACE`."""
    try:
        return file.read_text().strip() or NAMESPACE
    except OSError:
        return os.environ.get("POD_NAMESPACE") or NAMESPACE
