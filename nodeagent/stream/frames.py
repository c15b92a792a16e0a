"""The journal's encoding: frames that each have a checksum, a kind and the wall-clock time of writing. Pure.

A frame is length (u32) and CRC-32 (u32) of what follows: kind (u8), Unix time in nanoseconds (u64), and the body; all
little-endian. The time stands in every frame, under the checksum, so that a copy of the file is as old as its content,
whatever its mtime says. A frame of fewer than nine bytes is none: zeros behind the frames end them.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import SEEK_END
from struct import Struct as Layout
from typing import BinaryIO
from zlib import crc32

import msgspec

MAGIC = b"deltaplane journal 2\n"
FAMILY = b"deltaplane journal "
OWNER, MESSAGE, STAMP = 1, 2, 3  # whose state follows (JSON); a WatchResponse; "all before is still true"
MAX_FRAME_BYTES = 64 * 1024 * 1024
MAX_READ_BYTES = 256 * 1024 * 1024  # of one journal, into memory
_FRAME = Layout("<II")
_INNER = Layout("<BQ")


class ForeignError(Exception):
    """Not a journal that this version can read; the text says why."""


class Owner(msgspec.Struct, frozen=True):
    """Whose state it is; what is empty is not known. `cluster`: Welcome.cluster_id."""

    node: str = ""
    cluster: str = ""


class Replay(msgspec.Struct):
    """The good frames of a journal. `ends`, `times`: the offset behind each message, and its Unix nanoseconds.

    `size`, `written`: the same of the last good frame, which may say no more than that all before is still true.
    `lost`: bytes behind that frame.
    """

    messages: list[bytes] = msgspec.field(default_factory=list)
    ends: list[int] = msgspec.field(default_factory=list)
    times: list[int] = msgspec.field(default_factory=list)
    size: int = 0
    lost: int = 0
    written: int = 0
    owner: Owner = Owner()


def frame(kind: int, body: bytes, unix_nano: int) -> bytes:
    """One frame."""
    inner = _INNER.pack(kind, unix_nano) + body
    return _FRAME.pack(len(inner), crc32(inner)) + inner


def owner_frame(owner: Owner, unix_nano: int) -> bytes:
    """The frame that says whose the state is, from here on."""
    return frame(OWNER, msgspec.json.encode(owner), unix_nano)


def read(file: BinaryIO, limit: int = MAX_READ_BYTES) -> Replay:
    """What the file has up to the first frame that is cut short, damaged or beyond `limit` bytes.

    Raises `ForeignError` where it does not begin as a journal does.
    """
    begin = file.read(len(MAGIC))
    if begin != MAGIC:
        other = begin.startswith(FAMILY)
        raise ForeignError("it has the format of another version" if other else "it does not begin as a journal does")
    found = Replay(size=len(MAGIC))
    for kind, unix_nano, body, size in _frames(file, limit):
        if not _take(found, kind, body):
            break
        found.size += size
        found.written = unix_nano
        if kind == MESSAGE:
            found.ends.append(found.size)
            found.times.append(unix_nano)
    found.lost = file.seek(0, SEEK_END) - found.size
    return found


def _take(found: Replay, kind: int, body: bytes) -> bool:
    if kind == MESSAGE:
        found.messages.append(body)
    elif kind == OWNER:
        try:
            found.owner = msgspec.json.decode(body, type=Owner)
        except msgspec.MsgspecError:
            return False
    return True  # a kind this version does not know says nothing of the state


def _frames(file: BinaryIO, limit: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Kind, time, body, and size of the frame with its head."""
    room = limit
    while len(head := file.read(_FRAME.size)) == _FRAME.size:
        length, checksum = _FRAME.unpack(head)
        room -= _FRAME.size + length
        if not _INNER.size <= length <= MAX_FRAME_BYTES or room < 0:
            return
        inner = file.read(length)
        if len(inner) != length or crc32(inner) != checksum:
            return
        yield *_INNER.unpack_from(inner), inner[_INNER.size :], _FRAME.size + length
