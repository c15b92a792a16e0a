"""Control groups of a node: one below the root of each v1 hierarchy. Called by `node` and `leftovers`.

A node's processes see theirs as the root (cgroup namespace), and its kubelet makes the Pods' below. What a killed node
leaves costs the next kubelet seconds per container, so `remove` takes the whole tree, processes first.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SHARES = "4096"  # of the processor: a node is many processes, and one group among all others of the machine
_NEEDED = frozenset(("cpu", "cpuacct", "cpuset", "memory", "pids"))
_FLAGS = frozenset(("rw", "ro", "relatime", "nosuid", "nodev", "noexec"))


@dataclass(frozen=True)
class Hierarchy:
    """A mounted v1 hierarchy: where, and the options that mount it again."""

    path: Path
    options: str


def hierarchies() -> list[Hierarchy]:
    """Those of this machine, as /proc/mounts has them."""
    found = []
    for line in Path("/proc/mounts").read_text().splitlines():
        _, path, kind, options, *_ = line.split()
        if kind == "cgroup":
            kept = [option for option in options.split(",") if option not in _FLAGS and "release_agent" not in option]
            found.append(Hierarchy(Path(path), ",".join(["none", *kept] if "name=systemd" in kept else kept)))
    return found


def lacking() -> str:
    """Why no node can run here; "" where one can."""
    there = {option for hierarchy in hierarchies() for option in hierarchy.options.split(",")}
    missing = sorted(_NEEDED - there)
    return f"no cgroup v1 hierarchy has {', '.join(missing)}" if missing else ""


def make(name: str) -> list[Hierarchy]:
    """The groups `name`, ready to take processes; returns the hierarchies they are in."""
    used = hierarchies()
    for hierarchy in used:
        group = hierarchy.path / name
        group.mkdir(exist_ok=True)
        if (group / "cpu.shares").exists():
            (group / "cpu.shares").write_text(SHARES)
        for key in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group, and no process may join it
            if (group / key).exists():
                (group / key).write_text((hierarchy.path / key).read_text())
    return used


def listed(prefix: str) -> list[str]:
    """The names of groups directly below a root that begin so."""
    return sorted({path.name for hierarchy in hierarchies() for path in hierarchy.path.glob(f"{prefix}*")})


def remove(name: str, timeout: float = 20.0) -> None:
    """The groups and what is below, with every process in them. Raises TimeoutError where something stays."""
    deadline = time.monotonic() + timeout
    while left := [group for hierarchy in hierarchies() for group in _removed(hierarchy.path / name)]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"cgroups stay: {', '.join(map(str, left))}")
        time.sleep(0.05)


def _removed(group: Path) -> Iterator[Path]:
    """Tries once, the deepest first; those that stay."""
    for folder, _, _ in os.walk(group, topdown=False):
        path = Path(folder)
        _thaw(path)
        for pid in _members(path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            path.rmdir()
        except FileNotFoundError:
            continue
        except OSError:
            yield path


def _thaw(group: Path) -> None:
    with contextlib.suppress(OSError):
        (group / "freezer.state").write_text("THAWED")


def _members(group: Path) -> list[int]:
    with contextlib.suppress(OSError):
        return [int(pid) for pid in (group / "cgroup.procs").read_text().split() if int(pid) > 0]
    return []
