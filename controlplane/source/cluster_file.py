"""The id of the cluster that a folder of manifests is of: a file `cluster-id` in it (see `identity`). Never fatal."""

from __future__ import annotations

import logging
import os
import stat
from pathlib import Path

from deltaplane.logs import event
from deltaplane.names import is_cluster_id

FILE = "cluster-id"

log = logging.getLogger(__name__)


def in_folder(folder: Path) -> str:
    """The content of the file `cluster-id`; empty if there is none, or if it is no valid cluster id."""
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
