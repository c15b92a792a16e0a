"""Notices as Events of the cluster, on the Node they are about: `kubectl describe node` shows them.

Filled by the control plane's server, run by `source.kubernetes`. Never fatal and never waited for: what cannot be
written is said once in the log and forgotten.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import aiohttp

from controlplane.notices import Notice
from controlplane.source.api import Api, ApiError, Resource
from controlplane.source.backoff import Backoff
from deltaplane.logs import event

log = logging.getLogger(__name__)

NAMESPACE = "default"  # of Events about what has no namespace
EVENTS = Resource("", "v1", "events", namespace=NAMESPACE)
COMPONENT = "deltaplane"
TRIES = 6
CONFLICT = 409
_LIMIT = aiohttp.ClientTimeout(total=10)
_WAITING, _REMEMBERED = 1000, 20_000


class Events:
    """Implements `controlplane.notices.Notices`; `run` writes them until cancelled."""

    def __init__(self, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._waiting: asyncio.Queue[Notice] = asyncio.Queue(_WAITING)
        self._told: OrderedDict[Notice, None] = OrderedDict()
        self._sleep = sleep

    def tell(self, notice: Notice) -> None:
        """An agent that connects again repeats itself: once is enough. Other replicas' Events have the same name."""
        if notice in self._told:
            return
        if self._waiting.full():
            event(log, logging.WARNING, "too many Events wait: dropped", about=notice.about, text=notice.text)
            return
        self._told[notice] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        self._waiting.put_nowait(notice)

    async def run(self, api: Api) -> None:
        while True:
            notice = await self._waiting.get()
            try:
                await self._write(api, notice)
            except ApiError as error:
                event(log, logging.WARNING, "cannot write an Event", about=notice.about, text=notice.text, reason=error)

    async def _write(self, api: Api, notice: Notice) -> None:
        backoff = Backoff(base=1.0, cap=30.0)
        for left in reversed(range(TRIES)):
            try:
                await api.create(EVENTS, manifest(notice, datetime.now(UTC)), _LIMIT)
            except ApiError as error:
                if error.status == CONFLICT:
                    return  # another replica was told as well
                if not left or error.status in {400, 401, 403, 404, 422}:
                    raise
                await self._sleep(max(error.retry_after, backoff.next()))
            else:
                return


def manifest(notice: Notice, now: datetime) -> dict[str, Any]:
    """The Event (core v1). Its name says what it tells, so that several replicas make one. `now` is in UTC."""
    digest = hashlib.sha256(f"{notice.instance} {notice.reason} {notice.text}".encode()).hexdigest()[:16]
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    space, name = notice.service
    # The node's name as its uid: so do the kubelet and kube-proxy, and so does kubectl look for them.
    about = {"apiVersion": "v1", "kind": "Node", "name": notice.node, "uid": notice.node}
    if not notice.node:
        about = {"apiVersion": "v1", "kind": "Service", "name": name, "namespace": space}
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about['name'][:230]}.{digest}", "namespace": space or NAMESPACE},
        "involvedObject": about,
        "type": "Warning",
        "reason": notice.reason,
        "message": notice.text[:1024],
        "source": {"component": COMPONENT, **({"host": notice.node} if notice.node else {})},
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
