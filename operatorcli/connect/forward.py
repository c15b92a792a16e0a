"""A port of a Pod as a unix socket of this user alone: gRPC dials it, and connections go through the API server.

Threads: one that accepts, two for each connection that carry bytes. All end with `close`, or with the process.
"""

from __future__ import annotations

import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol, Self

CHUNK = 64 * 1024


class Far(Protocol):
    """One connection to the port. `failure`: why nothing came, for when nothing has come."""

    socket: socket.socket

    def failure(self) -> Exception | None: ...


class Forward:
    """`dial` opens one connection to the port. Why the newest was not made, or brought nothing, is in `error`."""

    def __init__(self, dial: Callable[[], Far]) -> None:
        self._dial = dial
        self.error: Exception | None = None
        self._folder = tempfile.mkdtemp(prefix="deltaplane-")  # mode 0700
        self._listener = socket.socket(socket.AF_UNIX)
        self.path = Path(self._folder, "replica.sock")
        self._listener.bind(str(self.path))
        self._listener.listen()
        _start(self._accept)

    @property
    def target(self) -> str:
        """As gRPC takes it."""
        return f"unix:{self.path}"

    def _accept(self) -> None:
        with suppress(OSError):  # it was closed
            while True:
                near, _ = self._listener.accept()
                _start(lambda near=near: self._connect(near))  # type: ignore[misc]

    def _connect(self, near: socket.socket) -> None:
        try:
            far = self._dial()
        except Exception as error:  # noqa: BLE001 - of the Kubernetes client and its websockets; told by who asks
            self.error = error
            near.close()
            return
        _start(lambda: _carry(near, far.socket))
        first = _received(far.socket)
        self.error = None if first else far.failure()  # before the near side hears that it ended
        with suppress(OSError):
            near.sendall(first)
            _carry(far.socket, near)
        for each in (near, far.socket):
            _shut(each)
            each.close()

    def close(self) -> None:
        """Ends the listener; connections end with their peers."""
        _shut(self._listener)
        self._listener.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _start(run: Callable[[], None]) -> None:
    threading.Thread(target=run, name="forward", daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    """Bytes, until either ends; then the target ends."""
    with suppress(OSError):
        while data := _received(source):
            target.sendall(data)
    _shut(target)


def _received(source: socket.socket) -> bytes:
    """Empty: it ended."""
    with suppress(OSError):
        return source.recv(CHUNK)
    return b""


def _shut(end: socket.socket) -> None:
    with suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
