"""The id of the cluster that the objects belong to, so that no agent changes from one cluster's state to another's.

For the Kubernetes source it is the UID of the Namespace kube-system, which exists as long as the cluster; for manifests
`cluster_file` has it. Never fatal: without it, the id is unknown, which is logged once.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec

from controlplane.source.api import Api
from controlplane.source.resource import ApiError, Resource
from deltaplane.backoff import Backoff, Retries
from deltaplane.logs import event
from deltaplane.names import is_cluster_id

log = logging.getLogger(__name__)

KUBE_SYSTEM = Resource("", "v1", "namespaces/kube-system")
FINAL = {403, 404}  # another try gets the same answer
TRIES = Backoff(1.0, 30.0)
_LIMIT = aiohttp.ClientTimeout(total=5)


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Namespace(msgspec.Struct):
    metadata: _Metadata


class Identity:
    """Asks the API server until it answers. Calls `found` with the UID, once, if the server returns one."""

    def __init__(
        self, api: Api, found: Callable[[str], None], sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> None:
        self._api = api
        self._found = found
        self._sleep = sleep
        self._answered = False

    async def ask(self) -> None:
        """One try."""
        try:
            body = await self._api.fetch(KUBE_SYSTEM, {}, _LIMIT, "get")
        except ApiError as error:
            if error.status in FINAL:
                self._unknown(str(error))
            return
        self._answered = True
        uid = uid_of(body)
        if uid:
            self._found(uid)
        else:
            self._unknown("the Namespace kube-system has no usable UID")

    async def run(self) -> None:
        """Retries until the server answers. Runs until cancelled."""
        retries = Retries(TRIES, random.random)
        while not self._answered:
            await self._sleep(retries.failed())
            await self.ask()
        await asyncio.Event().wait()

    def _unknown(self, reason: str) -> None:
        self._answered = True
        event(log, logging.WARNING, "which cluster this is cannot be told to agents", reason=reason)


def uid_of(body: bytes) -> str:
    """The UID of a Namespace object; empty if there is none, or if it is no valid cluster id."""
    try:
        uid = msgspec.json.decode(body, type=_Namespace).metadata.uid
    except msgspec.MsgspecError:
        return ""
    return uid if is_cluster_id(uid) else ""
