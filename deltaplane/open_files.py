"""When the process, or the machine, can open no more files: what that is, and what to do. Used by both programs."""

from __future__ import annotations

import errno
import os
import resource


def exhausted(error: object) -> str:
    """Where the error says that no file can be opened: the limit, and what to do. Empty: it says something else."""
    if not isinstance(error, OSError) or error.errno not in (errno.EMFILE, errno.ENFILE):
        return ""
    if error.errno == errno.ENFILE:
        return "the machine has no more files to open: see fs.file-max and fs.file-nr, and which program has so many"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        f"this process may open {most} files and has as many: see which they are in /proc/{os.getpid()}/fd; "
        "raise LimitNOFILE (systemd) or the container runtime's limit, or have fewer clients"
    )
