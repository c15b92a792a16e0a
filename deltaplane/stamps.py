"""Whether a file may have changed, without reading it. Used by both programs for certificates and kubeconfigs."""

from __future__ import annotations

from pathlib import Path

Stamp = tuple[int, int, int] | None
"""Inode, size in bytes, mtime in ns; None: the file cannot be read."""


def stamp(path: str) -> Stamp:
    """What the file is now."""
    try:
        found = Path(path).stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns
