"""Unix sockets: whether one is another program's, and one that is for this user alone.

gRPC would take the place of one that is in use, without a word.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit


def taken(address: str) -> bool:
    """Whether a program listens at unix:///PATH. A file that one has left behind is nobody's, nor is HOST:PORT."""
    path = urlsplit(address).path if address.startswith("unix:") else ""
    if not path or not Path(path).is_socket():
        return False
    with closing(socket.socket(socket.AF_UNIX)) as asking:
        try:
            asking.setblocking(False)
            asking.connect(path)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return True


@contextmanager
def private() -> Iterator[None]:
    """A socket that is bound meanwhile is for this user alone: whoever may open its file may ask."""
    before = os.umask(0o177)
    try:
        yield
    finally:
        os.umask(before)
