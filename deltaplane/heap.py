"""How the interpreter keeps memory, for both programs: `tune` is called once, before any thread begins."""

from __future__ import annotations

import gc

from deltaplane import malloc


def tune(*, whole: int) -> None:
    """Lets the garbage collector run seldom, and all threads share one heap. `whole`: how many times the youngest but
    one are collected until all are.

    What lives long is made of `gc=False` structs, and what ends takes itself apart, so cycles are few. With the
    interpreter's own thresholds (700 objects) the collector visits the objects of all streams several times a round.
    """
    gc.set_threshold(50_000, 10, whole)
    malloc.share_one_heap()
