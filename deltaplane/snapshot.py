"""The whole state, or some buckets of it, as messages: begin, chunks of ops, end.

Called by the control plane for an agent that has nothing to build on, and by the agent's journal, which keeps the same
messages on disk. Building costs the whole state; the input is immutable, so it may be done in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from zlib import compress, crc32

from msgspec import Struct

from deltaplane.codec import encode_op
from deltaplane.digest import LEAF, Places
from deltaplane.model import EndpointSlice, Kind, Node, Object, ObjectKey, Service, Upsert
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

PARTIAL = "partial-snapshot"  # the capability of an agent that takes some buckets for an answer
ON_REQUEST = "digests-on-request"  # of an agent that answers a DigestRequest, and of a replica that sends one
CHUNK_BYTES = 256 * 1024  # of ops before compression
_FIRST = (("default", "kubernetes"), ("kube-system", "kube-dns"))  # what a node needs before anything else


class State(Struct, frozen=True):
    """What a snapshot says: the objects and what was true of the whole state at `rev`.

    `places`: the objects are those of these buckets or leaves; None: they are all there are.
    """

    epoch: bytes
    rev: int
    objects: tuple[Object, ...]
    digest: int
    versions: Mapping[Kind, str]
    places: Places | None = None


class Snapshot(Struct, frozen=True):
    """WatchResponses in the order they are sent: begin, chunks, end. `places`: as the State's."""

    rev: int
    messages: tuple[bytes, ...]
    places: Places | None = None


def build(state: State, encoding: pb.Encoding.ValueType = pb.ENCODING_ZLIB) -> Snapshot:
    """The state as messages; chunks of about CHUNK_BYTES, compressed once for everybody."""
    counts = count(object_.key for object_ in state.objects)
    chunks = [_chunk(index, packed, encoding) for index, packed in enumerate(_pack(in_priority(state.objects)))]
    size = sum(map(len, chunks))
    begin = pb.SnapshotBegin(epoch=state.epoch, rev=state.rev, counts=counts, bytes=size, chunks=len(chunks))
    if state.places is not None:
        begin.partial = True
        named = begin.leaves if state.places.level is LEAF else begin.buckets
        named.extend(sorted(state.places.numbers))
    end = pb.SnapshotEnd(rev=state.rev, counts=counts, digest=state.digest)
    for kind, version in sorted(state.versions.items()):
        end.versions.add(kind=int(kind), version=version)
    first = pb.WatchResponse(snapshot_begin=begin).SerializeToString()
    last = pb.WatchResponse(snapshot_end=end).SerializeToString()
    return Snapshot(state.rev, (first, *chunks, last), state.places)


def count(keys: Iterable[ObjectKey]) -> pb.Counts:
    """How many there are of each kind."""
    numbers = Counter(kind for kind, _, _ in keys)
    return pb.Counts(
        services=numbers[Kind.SERVICE],
        endpoint_slices=numbers[Kind.ENDPOINT_SLICE],
        nodes=numbers[Kind.NODE],
        service_cidrs=numbers[Kind.SERVICE_CIDR],
    )


def in_priority(objects: Iterable[Object]) -> list[Object]:
    """Nodes, address ranges, the API's and DNS's Service, then the others by name, each before its slices (S8)."""
    return sorted(objects, key=_priority)


def _priority(object_: Object) -> tuple[int, str, str, int, str]:
    if isinstance(object_, Service | EndpointSlice):
        is_slice = isinstance(object_, EndpointSlice)
        owner = object_.service if isinstance(object_, EndpointSlice) else object_.name
        name = (object_.namespace, owner)
        rank = 2 + _FIRST.index(name) if name in _FIRST else 2 + len(_FIRST)
        return rank, *name, int(is_slice), object_.name
    return 0 if isinstance(object_, Node) else 1, "", object_.name, 0, ""


def _pack(objects: Iterable[Object]) -> Iterator[bytes]:
    """Serialised OpLists of about CHUNK_BYTES. Serialised lists joined are the joined list (protobuf encoding)."""
    parts: list[bytes] = []
    size = 0
    for object_ in objects:
        one = objects_pb2.OpList()
        encode_op(Upsert(object_), one.ops)
        part = one.SerializeToString()
        if parts and size + len(part) > CHUNK_BYTES:
            yield b"".join(parts)
            parts, size = [], 0
        parts.append(part)
        size += len(part)
    if parts:
        yield b"".join(parts)


def _chunk(index: int, packed: bytes, encoding: pb.Encoding.ValueType) -> bytes:
    if encoding == pb.ENCODING_ZLIB:
        packed = compress(packed, 1)
        chunk = pb.SnapshotChunk(index=index, packed=packed, encoding=encoding, crc32=crc32(packed))
    else:
        ops = objects_pb2.OpList.FromString(packed).ops
        chunk = pb.SnapshotChunk(index=index, ops=ops, encoding=pb.ENCODING_IDENTITY)
    return pb.WatchResponse(snapshot_chunk=chunk).SerializeToString()
