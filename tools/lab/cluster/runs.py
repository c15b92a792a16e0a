"""Runs of the cluster on this machine: each has a name, a folder and a lock that its process holds as long as it lives.

Called by `cluster`, which opens one, and `leftovers`, which looks for those whose process is gone.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

PREFIX = "dpc"
FOLDER = Path(os.environ.get("DELTAPLANE_CLUSTER_DIR", "/var/tmp/deltaplane-cluster"))


@dataclass
class Run:
    """`name` begins the name of each cgroup; `folder` has logs, keys and the nodes' disks."""

    name: str
    lock: IO[str] | None = field(default=None, repr=False)

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def owner(self) -> int:
        """The process that opened it; whether it still is that one, `alive` knows."""
        return int(self.name.removeprefix(PREFIX).partition("-")[0])

    @property
    def alive(self) -> bool:
        """Whether its process holds the lock."""
        try:
            with self.lock_path.open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    @property
    def lock_path(self) -> Path:
        return FOLDER / f"{self.name}.lock"

    def close(self) -> None:
        """Gives up the lock. The folder must be gone by then."""
        if self.lock:
            self.lock_path.unlink(missing_ok=True)
            self.lock.close()
            self.lock = None


def opened() -> Run:
    """A run of this process. Raises FileExistsError where it has one already."""
    run = Run(f"{PREFIX}{os.getpid()}")
    if run.folder.exists():
        raise FileExistsError(f"{run.folder}: this process has a cluster already")
    FOLDER.mkdir(parents=True, exist_ok=True)
    # Locked before it is there by its name: nobody takes it for a dead one's meanwhile.
    beside = FOLDER / f".{run.name}.lock"
    run.lock = beside.open("w")
    fcntl.flock(run.lock, fcntl.LOCK_EX)
    beside.replace(run.lock_path)
    run.folder.mkdir()
    return run


def listed() -> list[Run]:
    """Every run of which a folder or a lock is left."""
    names = {path.name.removesuffix(".lock") for path in FOLDER.glob(f"{PREFIX}*")}
    return [Run(name) for name in sorted(names)]
