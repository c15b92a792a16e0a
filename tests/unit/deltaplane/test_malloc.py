"""The allocator's settings, in a process of their own: they last as long as it does."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, threading
from deltaplane import malloc
SHARED and malloc.share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
found = []
def allocate():
    found.append(libc.malloc(ctypes.c_size_t(4096)) >> 26)  # a heap of a thread's own is 64 MiB, aligned
thread = threading.Thread(target=allocate)
thread.start()
thread.join()
allocate()
print(len(set(found)))
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="this C library has no mallopt")
@pytest.mark.parametrize(("shared", "heaps"), [("False", "2"), ("True", "1")])
def test_threads_share_one_heap_once_told_to(shared: str, heaps: str) -> None:
    program = PROGRAM.replace("SHARED", shared)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == f"{heaps}\n"
