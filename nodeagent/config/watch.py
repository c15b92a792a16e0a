"""Notices that the configuration file has other content; the process then ends, to be started with it (as kube-proxy).

The content is compared, and not events: a mounted ConfigMap changes by a swapped symbolic link, which says nothing to
a watcher of the file, and an editor that saves the same text is no reason to restart.
"""

from __future__ import annotations

import asyncio
import logging
from hashlib import sha256

from deltaplane import bounded
from deltaplane.logs import event

log = logging.getLogger(__name__)

SECONDS = 5.0
MOST_BYTES = 4 * 1024 * 1024


async def changed(file: str, seconds: float = SECONDS) -> None:
    """Returns once the content differs from what it was at the call; a file that is gone for now has not changed."""
    before = _digest(file)
    while True:
        await asyncio.sleep(seconds)
        now = _digest(file)
        if now is not None and now != before:
            event(log, logging.INFO, "configuration changed", file=file)
            return


def _digest(file: str) -> bytes | None:
    try:
        return sha256(bounded.read(file, MOST_BYTES).encode()).digest()
    except (OSError, ValueError):
        return None
