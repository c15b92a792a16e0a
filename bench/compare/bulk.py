"""Thousands of objects in little time: through the API server by many connections, or past it, right into etcd.

What is put into etcd the API server tells its watchers just as what came through it. Services go through it, because it
gives them their addresses; slices by the thousand do not, so that a whole zone's are changed in about a second, as
controllers of many machines would, which its own write path does not let a machine of two processors do.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from tools.lab.apiserver import ApiServer
from tools.lab.manifests import Object

CONNECTIONS = 8
AT_ONCE = 100  # objects of a transaction; etcd takes 128
BYTES = 1_000_000  # of them at most; etcd takes 1.5 MiB


def create(api: ApiServer, objects: Sequence[Object]) -> list[Object]:
    """POSTs all of them; the answers in the same order."""
    parts = [objects[number::CONNECTIONS] for number in range(CONNECTIONS)]
    given_up = threading.Event()

    def some(part: Sequence[Object]) -> list[Object]:
        with closing(api.admin.another()) as rest:
            return [rest.create(thing) for thing in part if not given_up.is_set()]

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        try:
            answers = list(threads.map(some, parts))
        except BaseException:
            given_up.set()
            raise
    return [answers[number % CONNECTIONS][number // CONNECTIONS] for number in range(len(objects))]


class Transactions:
    """Slices to be put into etcd; all is made ready here, so that `write` only sends."""

    def __init__(self, slices: Iterable[Object]) -> None:
        self._bodies: list[dict[str, Any]] = []
        puts: list[Object] = []
        size = 0
        for thing in slices:
            put = _put(thing)
            if puts and (len(puts) == AT_ONCE or size + len(put["value"]) > BYTES):
                self._close(puts)
                puts, size = [], 0
            puts.append({"requestPut": put})
            size += len(put["value"])
        self._close(puts)

    def _close(self, puts: list[Object]) -> None:
        if puts:
            self._bodies.append({"success": puts})

    def write(self, api: ApiServer) -> None:
        """Returns when etcd has all of them."""
        for body in self._bodies:
            answer = api.ask_etcd("kv/txn", body)
            if not answer.get("succeeded"):
                raise RuntimeError(f"etcd: {answer}")


def _put(thing: Object) -> dict[str, str]:
    metadata = thing["metadata"]
    key = f"/registry/endpointslices/{metadata['namespace']}/{metadata['name']}"
    texts = {"key": key, "value": json.dumps(thing, separators=(",", ":"))}
    return {name: base64.b64encode(text.encode()).decode() for name, text in texts.items()}
