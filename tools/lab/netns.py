"""Network namespaces: made, entered, listed and deleted. Everything else in the laboratory stands on this.

A namespace belongs to a *thread*: `Namespace.entered` moves the calling thread in and back out, and a socket made
meanwhile stays in that namespace for good. Names are `dp<pid of the owner>-<name>`, so that what a dead owner left
behind is known. Knows nothing of links or addresses (see `fabric`).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

FOLDER = Path("/run/netns")  # where iproute2 looks, so that `ip netns exec NAME` works on ours
PREFIX = "dp"

_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED = 4096, 16384, 1 << 20
_MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)
_T = TypeVar("_T")


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


@dataclass(frozen=True)
class Namespace:
    """A namespace by the name it has in /run/netns."""

    name: str

    @property
    def path(self) -> Path:
        return FOLDER / self.name

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside meanwhile. Do not await within: other tasks of the thread would be inside."""
        with Path("/proc/thread-self/ns/net").open("rb") as home, self.path.open("rb") as there:
            _call("setns", there.fileno(), _CLONE_NEWNET)
            try:
                yield
            finally:
                _call("setns", home.fileno(), _CLONE_NEWNET)

    def socket(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        with self.entered():
            return socket.socket(family, kind, protocol)

    def sysctl(self, values: Mapping[str, object]) -> None:
        """Writes /proc/sys/net/<key>; a key this kernel does not have is left out."""
        with self.entered():
            for key, value in values.items():
                with contextlib.suppress(FileNotFoundError):
                    Path("/proc/sys/net", key).write_text(str(value))

    def run(self, act: Callable[[], _T]) -> _T:
        """`act` inside, in a thread of its own: for clients that bring an event loop along."""
        return in_thread(lambda: self._inside(act))

    def _inside(self, act: Callable[[], _T]) -> _T:
        with self.entered():
            return act()

    def pids(self) -> list[int]:
        """The processes that live inside: never the caller's own, whose threads only visit."""
        here = self.path.stat()
        return [pid for pid in _all_pids() if pid != os.getpid() and _same(f"/proc/{pid}/ns/net", here)]


def _all_pids() -> Iterator[int]:
    return (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def _same(path: str, here: os.stat_result) -> bool:
    try:
        there = Path(path).stat()
    except OSError:
        return False
    return (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino)


def in_thread(act: Callable[[], _T]) -> _T:
    """`act` in a new thread, waited for; its exception is raised here."""
    results: list[_T] = []
    failures: list[BaseException] = []

    def body() -> None:
        try:
            results.append(act())
        except BaseException as failure:  # noqa: BLE001 - carried over to the caller's thread, whatever it is
            failures.append(failure)

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def owned(name: str, prefix: str = PREFIX) -> str:
    """The full name of this process's namespace `name`."""
    return f"{prefix}{os.getpid()}-{name}"


def create(name: str, prefix: str = PREFIX) -> Namespace:
    """A new namespace of this process. A thread unshares and is bound to the name: no fork, so safe beside others."""
    _prepare_folder()
    space = Namespace(owned(name, prefix))
    space.path.touch(exist_ok=False)

    def body() -> None:
        _call("unshare", _CLONE_NEWNET)
        _call("mount", b"/proc/thread-self/ns/net", os.fsencode(space.path), b"none", ctypes.c_ulong(_MS_BIND), None)

    try:
        in_thread(body)
    except OSError:
        space.path.unlink()
        raise
    return space


def _prepare_folder() -> None:
    """As iproute2 does it: the folder is a shared mount, so that a deletion is seen in every mount namespace."""
    FOLDER.mkdir(exist_ok=True)
    folder, shared = os.fsencode(FOLDER), ctypes.c_ulong(_MS_SHARED | _MS_REC)
    if _libc.mount(b"", folder, b"none", shared, None) != 0:
        _call("mount", folder, folder, b"none", ctypes.c_ulong(_MS_BIND | _MS_REC), None)
        _call("mount", b"", folder, b"none", shared, None)


def delete(space: Namespace) -> None:
    """Its processes are killed first: they would keep it alive without a name."""
    if not space.path.exists():
        return
    with contextlib.suppress(OSError):
        _kill_inside(space)
    with contextlib.suppress(OSError):
        _call("umount2", os.fsencode(space.path), _MNT_DETACH)
    space.path.unlink(missing_ok=True)


def _kill_inside(space: Namespace) -> None:
    for pid in space.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 2
    while space.pids() and time.monotonic() < deadline:
        time.sleep(0.005)


def listed(prefix: str = PREFIX) -> list[tuple[int, Namespace]]:
    """Namespaces of this laboratory on the machine, whoever owns them: (owner's pid, namespace)."""
    found = []
    for path in sorted(FOLDER.iterdir()) if FOLDER.exists() else ():
        owner, _, _ = path.name.removeprefix(prefix).partition("-")
        if path.name.startswith(prefix) and owner.isdigit():
            found.append((int(owner), Namespace(path.name)))
    return found


def sweep(prefix: str = PREFIX) -> list[str]:
    """Deletes what owners that no longer live have left; returns the names."""
    dead = [space for pid, space in listed(prefix) if not Path(f"/proc/{pid}").exists()]
    for space in dead:
        delete(space)
    return [space.name for space in dead]


def delete_own(prefix: str = PREFIX) -> None:
    """Deletes every namespace of this process: the last resort at exit."""
    for pid, space in listed(prefix):
        if pid == os.getpid():
            delete(space)
