"""What a run of the cluster leaves when it is killed, and its removal. Called by `tools.cluster` and `cluster`.

With its process end all programs it started (parent-death signal, and each node's process namespace), and with those
their mounts. Left are the network namespaces, the cgroups and the folder. `removed` is also how a run ends in peace.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

from tools.lab import netns
from tools.lab.cluster import cgroups, runs
from tools.lab.cluster.runs import Run


def found() -> list[str]:
    """Everything on this machine that belongs to a run of our folder, or to none that lives: one line each."""
    ours = {run.owner for run in runs.listed()}
    lines = Path("/proc/mounts").read_text().splitlines()
    return [
        *(f"run {run.name}" for run in runs.listed()),
        *(f"namespace {space.name}" for pid, space in netns.listed() if pid in ours or not _lives(pid)),
        *(f"cgroup {name}" for name in cgroups.listed(runs.PREFIX) if _owner(name) in ours or not _lives(_owner(name))),
        *(f"mount {line.split()[1]}" for line in lines if str(runs.FOLDER) in line),
    ]


def _owner(name: str) -> int:
    """The process that made a run or a cgroup of this name."""
    number = name.removeprefix(runs.PREFIX).partition("-")[0]
    return int(number) if number.isdigit() else 0


def _lives(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def removed() -> list[str]:
    """Removes what runs have left whose process is gone; returns their names."""
    dead = [run for run in runs.listed() if not run.alive]
    owners = {run.owner for run in dead}
    groups = [name for name in cgroups.listed(runs.PREFIX) if _owner(name) in owners or not _lives(_owner(name))]
    for name in groups:
        cgroups.remove(name)
    spaces = netns.sweep()
    for run in dead:
        remove_folder(run)
    return sorted({run.name for run in dead} | set(groups) | set(spaces))


def remove_folder(run: Run, timeout: float = 30.0) -> None:
    """The folder and the lock. A mount of a process that is about to end may hold it for a moment."""
    deadline = time.monotonic() + timeout
    while run.folder.exists():
        try:
            shutil.rmtree(run.folder)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
    run.lock_path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        runs.FOLDER.rmdir()


def ended(timeout: float = 60.0) -> list[str]:
    """Asks the process of each run that is alive to end, and waits until it has; returns their names."""
    asked = [run for run in runs.listed() if run.alive]
    for run in asked:
        with contextlib.suppress(ProcessLookupError):
            os.kill(run.owner, signal.SIGTERM)
    deadline = time.monotonic() + timeout
    while any(run.alive for run in asked):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still running: {', '.join(run.name for run in asked if run.alive)}")
        time.sleep(0.1)
    return [run.name for run in asked]
