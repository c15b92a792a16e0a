"""A snapshot while it arrives: begin, chunks in order, end. Nothing of it is used before the end matches (S6, S13).

Called by the agent's session.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32, decompressobj
from zlib import error as ZlibError  # noqa: N812 - an exception, whatever its module calls it

from deltaplane.codec import MalformedError, decode_ops
from deltaplane.digest import BUCKET, LEAF, Places
from deltaplane.model import Object, ObjectKey, Unsupported, Upsert
from deltaplane.names import shown
from deltaplane.snapshot import count
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

MAX_CHUNK_BYTES = 2 * 1024 * 1024  # after decompression: replicas pack 256 KiB, or one object of 1 MiB at most


class SnapshotAssembler:
    """Raises `deltaplane.codec.MalformedError` on whatever does not fit; it is of no use afterwards."""

    def __init__(self, begin: pb.SnapshotBegin, raw: bytes) -> None:
        self.begin = begin
        self.places = _places(begin)  # None: it has all there is
        self.objects: dict[ObjectKey, Object] = {}
        self.messages = [raw]
        self.unsupported = 0
        self._chunks = 0
        counts = begin.counts
        self._announced = counts.services + counts.endpoint_slices + counts.nodes + counts.service_cidrs

    def add(self, chunk: pb.SnapshotChunk, raw: bytes) -> None:
        """The next chunk; no more of them, and no more objects, than were announced."""
        if chunk.index != self._chunks or self._chunks >= self.begin.chunks:
            due = f"{self._chunks} was due" if self._chunks < self.begin.chunks else f"{self._chunks} were announced"
            raise MalformedError(f"snapshot chunk {chunk.index} where {due}")
        for op in decode_ops(_unpack(chunk)):
            if isinstance(op, Unsupported):
                self.unsupported += 1
                continue
            if len(self.objects) >= self._announced:
                raise MalformedError(f"a snapshot of {self._announced} objects has more")
            if not isinstance(op, Upsert):
                raise MalformedError(f"{op.key}: a snapshot only adds")
            key, object_ = op.key, op.object
            if self.objects.setdefault(key, object_) is not object_:
                raise MalformedError(f"{key} stands twice in one snapshot")
        self._chunks += 1
        self.messages.append(raw)

    def end(self, end: pb.SnapshotEnd, raw: bytes) -> None:
        """The end: revision, chunks and counts must be what was announced and what arrived."""
        begin = self.begin
        if end.rev != begin.rev or self._chunks != begin.chunks:
            raise MalformedError(
                f"snapshot of revision {begin.rev} with {begin.chunks} chunks ended as {end.rev} with {self._chunks}"
            )
        if not begin.counts == end.counts == count(self.objects):
            raise MalformedError(f"snapshot of revision {begin.rev}: its counts are not what arrived")
        self._within()
        self.messages.append(raw)

    def _within(self) -> None:
        """A partial snapshot names its buckets or leaves, and what it has is in them."""
        buckets, leaves, places = list(self.begin.buckets), list(self.begin.leaves), self.places
        if places is None:
            if buckets or leaves:
                raise MalformedError("a snapshot of some buckets that does not say that it is partial")
            return
        if buckets and leaves:
            raise MalformedError("a partial snapshot of buckets and of leaves")
        named, number = buckets or leaves, places.level.number
        if named != sorted(places.numbers) or (named and named[-1] >= number):
            name = places.level.name
            raise MalformedError(f"a partial snapshot of {name} {shown(str(named[:8]))}: not ascending below {number}")
        for key in self.objects:
            if key not in places:
                raise MalformedError(f"{key}: in a partial snapshot without its place among the {places.level.name}")


def _places(begin: pb.SnapshotBegin) -> Places | None:
    if not begin.partial:
        return None
    return Places(LEAF, frozenset(begin.leaves)) if begin.leaves else Places(BUCKET, frozenset(begin.buckets))


def _unpack(chunk: pb.SnapshotChunk) -> Iterable[objects_pb2.Op]:
    if chunk.encoding != pb.ENCODING_ZLIB:
        if chunk.packed:
            raise MalformedError(f"snapshot chunk {chunk.index}: unknown encoding {chunk.encoding}")
        return chunk.ops
    if crc32(chunk.packed) != chunk.crc32:
        raise MalformedError(f"snapshot chunk {chunk.index}: checksum differs")
    inflate = decompressobj()
    try:
        packed = inflate.decompress(chunk.packed, MAX_CHUNK_BYTES)
    except ZlibError as error:
        raise MalformedError(f"snapshot chunk {chunk.index}: {error}") from error
    if not inflate.eof:
        raise MalformedError(f"snapshot chunk {chunk.index}: cut short or above {MAX_CHUNK_BYTES} bytes")
    return objects_pb2.OpList.FromString(packed).ops
