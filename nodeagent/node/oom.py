"""Tells the kernel how readily to kill this process when memory runs out (oom_score_adj, as kube-proxy does)."""

from __future__ import annotations

import logging
from pathlib import Path

from deltaplane.logs import event

log = logging.getLogger(__name__)

FILE = Path("/proc/self/oom_score_adj")


def adjust(score: int, file: Path = FILE) -> bool:
    """Sets the score, -1000 to 1000; whether it could be set. Lowering it takes CAP_SYS_RESOURCE: without, it stays."""
    try:
        if int(file.read_text()) != score:
            file.write_text(f"{score}\n")
    except (OSError, ValueError) as error:
        event(log, logging.INFO, "oom score stays as it is", wanted=score, reason=error)
        return False
    return True
