"""Notices as Events of the cluster, on the Node they are about: `kubectl describe node` shows them.

The server adds notices, and `source.kubernetes` runs it. Never fatal, and nobody waits for it: a notice that cannot be
written is logged once and dropped.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from controlplane.notices import Notice
from controlplane.source.api import Api
from controlplane.source.resource import ApiError, Resource
from deltaplane.backoff import Backoff, Retries
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

NAMESPACE = (
    "default"  # of all Events: the role grants no other, and the API server takes those about Nodes nowhere else
)
EVENTS = Resource("", "v1", "events", namespace=NAMESPACE)
COMPONENT = "deltaplane"
TRIES = 6
BACKOFF = Backoff(1.0, 30.0)  # seconds between tries
CONFLICT = 409
_LIMIT = aiohttp.ClientTimeout(total=10)
_WAITING, _REMEMBERED = 1000, 20_000


class Events:
    """Implements `controlplane.notices.Notices`. `run` writes the Events until cancelled."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(_WAITING)
        self._told = Once[Notice](_REMEMBERED)
        self._sleep = sleep

    def tell(self, notice: Notice) -> None:
        """Takes each notice once: an agent that reconnects repeats them. Other replicas use the same names."""
        if notice in self._told:
            return
        if self._waiting.full():
            event(log, logging.WARNING, "too many Events wait: dropped", about=notice.about, text=notice.text)
            return
        self._told.note(notice)
        self._waiting.put_nowait(notice)

    async def run(self, api: Api) -> None:
        while True:
            notice = await self._waiting.get()
            try:
                await self._write(api, notice)
            except ApiError as error:
                event(log, logging.WARNING, "cannot write an Event", about=notice.about, text=notice.text, reason=error)

    async def _write(self, api: Api, notice: Notice) -> None:
        retries = Retries(BACKOFF, random.random)
        for left in reversed(range(TRIES)):
            try:
                await api.create(EVENTS, manifest(notice, datetime.now(UTC)), _LIMIT)
            except ApiError as error:
                if error.status == CONFLICT:
                    return  # another replica has written it
                if not left or error.status in {400, 401, 403, 404, 422}:
                    raise
                await self._sleep(max(error.retry_after, retries.failed()))
            else:
                return


def manifest(notice: Notice, now: datetime) -> dict[str, Any]:
    """The Event (core v1). Its name depends on the notice alone, so that replicas create one. `now` is in UTC."""
    digest = hashlib.sha256(f"{notice.instance} {notice.reason} {notice.text}".encode()).hexdigest()[:16]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    space, name = notice.service
    # The uid is the node's name, as the kubelet and kube-proxy write it and kubectl searches for it.
    about = {"apiVersion": "v1", "kind": "Node", "name": notice.node, "uid": notice.node}
    if not notice.node:
        # The API server refuses an Event that is about an object of another namespace than its own.
        where = {"namespace": space} if space == NAMESPACE else {}
        about = {"apiVersion": "v1", "kind": "Service", "name": name, **where}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about['name'][:230]}.{digest}", "namespace": NAMESPACE},
        "involvedObject": about,
        "type": "Warning",
        "reason": notice.reason,
        "message": f"{'' if notice.node else f'{notice.about}: '}{notice.text}"[:1024],
        "source": {"component": COMPONENT, **({"host": notice.node} if notice.node else {})},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
