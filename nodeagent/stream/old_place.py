"""State that an earlier version kept one or two folders higher is taken over, once.

Manifests of then gave all agents of a machine one folder; now each cluster and node has its own below it. What is
another node's, or kept by an agent that runs, stays where it is. Called at the start, before the journal is read.
"""

from __future__ import annotations

import logging
import os
from contextlib import closing, suppress
from pathlib import Path

from deltaplane.logs import event
from nodeagent.stream import frames, state_folder
from nodeagent.stream.journal_file import LOCK, NAME, NAMES

LEVELS = 2  # CLUSTER/NODE

log = logging.getLogger(__name__)


def take_over(folder: Path, node: str) -> None:
    """Moves the journal of this node here where there is none. Never raises: without it a snapshot is taken."""
    if os.path.lexists(folder / NAME):
        return
    for old in list(folder.absolute().parents)[:LEVELS]:
        if not os.path.lexists(old / NAME):
            continue
        try:
            if _moved(old, folder, node):
                event(log, logging.INFO, "state taken over", before=old / NAME, now=folder / NAME)
                return
        except (OSError, frames.ForeignError) as error:
            event(log, logging.WARNING, "state of before is not taken over", file=old / NAME, reason=error)


def _moved(old: Path, folder: Path, node: str) -> bool:
    with state_folder.folder(old, NAMES) as there, closing(_Held(there)):
        with os.fdopen(state_folder.open_file(there, NAME), "rb") as file:
            owner = frames.read(file).owner
        if owner.node != node:
            return False
        with state_folder.folder(folder, NAMES) as here:
            os.replace(NAME, NAME, src_dir_fd=there, dst_dir_fd=here)
        with suppress(OSError):
            os.unlink(LOCK, dir_fd=there)
        return True


class _Held:
    """The lock of a folder. Raises OSError while another agent has it."""

    def __init__(self, folder: int) -> None:
        self._lock = state_folder.lock(folder, LOCK)

    def close(self) -> None:
        os.close(self._lock)
