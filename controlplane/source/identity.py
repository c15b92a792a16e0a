"""Which cluster the objects are of, so that no agent is led from one cluster's state to another's.

For the Kubernetes source the UID of the Namespace kube-system, which lives as long as the cluster does; for manifests
what a file `cluster-id` in the folder says. Never fatal: where it cannot be told, it is not known, and said once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec

from controlplane.source.api import Api, ApiError, Resource
from controlplane.source.backoff import Backoff
from deltaplane.logs import event
from deltaplane.names import is_cluster_id

log = logging.getLogger(__name__)

KUBE_SYSTEM = Resource("", "v1", "namespaces/kube-system")
FILE = "cluster-id"
FINAL = {403, 404}  # another try would be answered likewise
_LIMIT = aiohttp.ClientTimeout(total=5)


class _Metadata(msgspec.Struct):
    uid: str = ""


class _Namespace(msgspec.Struct):
    metadata: _Metadata


class Identity:
    """Asks the API server until it answers; `found` is called with the UID, once, if it may be known."""

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
        """Tries on where the server did not answer. Runs until cancelled."""
        backoff = Backoff(base=1.0, cap=30.0)
        while not self._answered:
            await self._sleep(backoff.next())
            await self.ask()
        await asyncio.Event().wait()

    def _unknown(self, reason: str) -> None:
        self._answered = True
        event(log, logging.WARNING, "which cluster this is cannot be told to agents", reason=reason)


def uid_of(body: bytes) -> str:
    """The UID in a Namespace; empty where there is none that can be sent."""
    try:
        uid = msgspec.json.decode(body, type=_Namespace).metadata.uid
    except msgspec.MsgspecError:
        return ""
    return uid if is_cluster_id(uid) else ""


def in_folder(folder: Path) -> str:
    """What the file `cluster-id` says; empty where there is none, or none that can be sent."""
    path = folder / FILE
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    except OSError as error:
        return _ignored(path, error.strerror or "cannot be read")
    with os.fdopen(descriptor, "rb") as file:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        text = file.read(1024).decode("ascii", "replace").strip() if regular else ""
    return text if is_cluster_id(text) else _ignored(path, "it is not one line of 1 to 128 letters, digits, - . _ :")


def _ignored(path: Path, reason: str) -> str:
    event(log, logging.WARNING, "which cluster this is cannot be told to agents", file=path, reason=reason)
    return ""
