"""The kernel kills a process for its memory, as where a Pod reaches its limit. By the memory controller of cgroups.

The group has what the process allocates from now on charged to it, and less room than anything needs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tools.lab.process import Process

ROOTS = {Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes", Path("/sys/fs/cgroup"): "memory.max"}
COUNTS = {"memory.limit_in_bytes": "memory.oom_control", "memory.max": "memory.events"}
ROOM = 64 * 1024  # bytes


def lacking() -> str:
    """Why nothing can be limited here; "" where it can."""
    return "" if _root() else "no cgroup hierarchy has the memory controller"


def _root() -> tuple[Path, str] | None:
    v1, v2 = ROOTS.items()
    if (v1[0] / v1[1]).exists():
        return v1
    controllers = v2[0] / "cgroup.subtree_control"
    return v2 if controllers.exists() and "memory" in controllers.read_text().split() else None


@contextmanager
def _group(name: str) -> Iterator[tuple[Path, str]]:
    found = _root()
    assert found is not None, lacking()
    root, limit = found
    group = root / name
    group.mkdir()
    try:
        yield group, limit
    finally:
        _remove(group)


def _remove(group: Path, timeout: float = 20.0) -> None:
    """What the process had is let go after its end."""
    deadline = time.monotonic() + timeout
    while group.exists():
        try:
            group.rmdir()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def kill(process: Process, busy: Callable[[], object], timeout: float = 20.0) -> None:
    """Returns when the kernel has killed it. `busy` has it allocate, and may fail. Raises TimeoutError."""
    deadline = time.monotonic() + timeout
    with _group(f"deltaplane-{process.pid}") as (group, limit):
        (group / limit).write_text(str(ROOM))
        (group / "cgroup.procs").write_text(str(process.pid))
        while process.running:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{process.name} lives on with {ROOM} bytes")
            busy()
        counted = re.search(r"^oom_kill (\d+)$", (group / COUNTS[limit]).read_text(), re.MULTILINE)
        assert counted is not None
        assert int(counted[1]) >= 1, "something else killed it"
