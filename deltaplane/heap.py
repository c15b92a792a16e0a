"""How the interpreter keeps memory, for both programs: `imports` while they are loaded, then `tune`, once, before any
thread begins.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

from deltaplane import malloc


@contextmanager
def imports() -> Iterator[None]:
    """What is made within lives as long as the process: it is not collected, neither now nor later.

    Loading the agent makes 60,000 objects, and the collector would run at every 700 of them: an eighth of the time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def tune(*, whole: int) -> None:
    """Lets the garbage collector run seldom, and all threads share one heap. `whole`: how many times the youngest but
    one are collected until all are.

    What lives long is made of `gc=False` structs, and what ends takes itself apart, so cycles are few. With the
    interpreter's own thresholds (700 objects) the collector visits the objects of all streams several times a round.
    """
    gc.set_threshold(50_000, 10, whole)
    malloc.share_one_heap()
