"""glibc's allocator (mallopt(3)), for both programs. Other C libraries have no such call and are left as they are."""

from __future__ import annotations

import ctypes

_M_ARENA_MAX = -8
_libc = ctypes.CDLL(None)


def share_one_heap() -> bool:
    """All threads that begin afterwards allocate from one heap.

    They take turns in the interpreter anyway, and a heap keeps what is freed in it: each more costs memory. False where
    the C library cannot be asked.
    """
    try:
        return bool(_libc.mallopt(_M_ARENA_MAX, 1))
    except AttributeError:
        return False
