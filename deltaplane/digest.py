"""Hashes of objects and the digest of a whole state: how two ends know that they hold the same.

Called by the control plane's store and the agent's mirror. An object's hash covers every field of it but one; the
canonical bytes are the msgpack form of the value (field names included, https://msgpack.org), hashed with BLAKE2b (RFC
7693) to 64 bits. Hashes are equal on all replicas and releases that have the same fields.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from functools import lru_cache, reduce
from hashlib import blake2b
from operator import xor as _xor
from zlib import crc32

import msgspec
from msgspec import Struct

from deltaplane.model import Endpoint, EndpointSlice, Object, ObjectKey, Service

BUCKETS, CHILDREN = 256, 16
LEAVES = BUCKETS * CHILDREN
LEAF_MASK = 0xFFFFFFFF  # what travels of a leaf's digest: equal by chance once in 2**32, which the state's shows


class Level(Struct, frozen=True):
    """A way to divide the objects by their keys. `code`: the type of one digest in an `array`, as it travels."""

    name: str
    number: int
    code: str

    @property
    def size(self) -> int:
        """Bytes of all digests of this level."""
        return self.number * array(self.code).itemsize


BUCKET, LEAF = Level("buckets", BUCKETS, "Q"), Level("leaves", LEAVES, "I")
_encode = msgspec.msgpack.Encoder().encode
_int = int.from_bytes
_CREATED = _encode("created")


def _hash(value: object) -> int:
    return _int(blake2b(_encode(value), digest_size=8).digest(), "little")


def endpoint_hash(endpoint: Endpoint) -> int:
    """64 bits over every field of one endpoint."""
    return _hash(endpoint)


def header_hash(slice_: EndpointSlice) -> int:
    """64 bits over every field of a slice except its endpoints."""
    return _hash((slice_.namespace, slice_.name, slice_.service, slice_.family, slice_.ports))


def object_hash(object_: Object) -> int:
    """64 bits over every field but a Service's `created`, which releases before it do not know.

    A slice's hash is its header's XOR its endpoints' (an address stands in it at most once), so that a patch is
    checked at the cost of the endpoints it names.
    """
    if isinstance(object_, Service):
        return _int(blake2b(_without_age(_encode(object_)), digest_size=8).digest(), "little")
    if not isinstance(object_, EndpointSlice):
        return _hash(object_)
    value, encode, hash_, number = header_hash(object_), _encode, blake2b, _int
    for endpoint in object_.endpoints:  # 100,000 times in a cold load: `endpoint_hash` without its two calls
        value ^= number(hash_(encode(endpoint), digest_size=8).digest(), "little")
    return value


def _without_age(packed: bytes) -> bytes:
    """A Service's canonical bytes without its last field: a map of 13 entries becomes one of 12."""
    return bytes((packed[0] - 1,)) + packed[1 : packed.rindex(_CREATED)]


def xor(hashes: Iterable[int], start: int = 0) -> int:
    """All of them XORed onto `start`."""
    for value in hashes:
        start ^= value
    return start


class StateDigest:
    """4,096 leaves, each the XOR over H(key, object hash) of the objects whose key falls into it (S5).

    Changing one object costs one or two hashes whatever the size of the state. A bucket's digest is the XOR of its 16
    leaves', and `value` that of all; the buckets are worked out where somebody asks for them.
    """

    __slots__ = ("_known", "leaves", "value")

    def __init__(self) -> None:
        self.leaves = [0] * LEAVES
        self.value = 0
        self._known: dict[str, tuple[int, bytes]] = {}  # by level: the value that `at` was last asked at, its answer

    @property
    def buckets(self) -> list[int]:
        """The digests of all buckets."""
        return [reduce(_xor, self.leaves[first : first + CHILDREN]) for first in range(0, LEAVES, CHILDREN)]

    def children(self, buckets: Iterable[int]) -> Iterator[int]:
        """What travels of the digests of these buckets' leaves."""
        return (leaf & LEAF_MASK for bucket in buckets for leaf in self.leaves[bucket * CHILDREN :][:CHILDREN])

    def at(self, level: Level) -> bytes:
        """The digests of one level, as `packed` has them; worked out once for each state."""
        value, found = self._known.get(level.name, (0, b""))
        if not found or value != self.value:
            found = packed(self.buckets if level is BUCKET else self.children(range(BUCKETS)), level)
            self._known[level.name] = self.value, found
        return found

    def replace(self, key: ObjectKey, old: int | None, new: int | None) -> None:
        """The object `key` had hash `old` (None: was absent) and has `new` now (None: is gone)."""
        self.toggle(*edit(key, old, new))

    def toggle(self, leaf: int, change: int) -> None:
        """Applies what `edit` returned; applying it again takes it back."""
        self.leaves[leaf] ^= change
        self.value ^= change


def edit(key: ObjectKey, old: int | None, new: int | None) -> tuple[int, int]:
    """The leaf of `key`, and what to XOR onto it (and onto the value) when its hash goes from `old` to `new`."""
    text = _text(key)
    change = 0
    if old is not None:
        change = _entry(text, old)
    if new is not None:
        change ^= _entry(text, new)
    return _leaf(crc32(text)), change


def _leaf(crc: int) -> int:
    return (crc % BUCKETS) * CHILDREN + crc // BUCKETS % CHILDREN


def leaf_of(key: ObjectKey) -> int:
    """The leaf of `key`: 0 to LEAVES - 1, the same on every replica and in every agent.

    It is one of the CHILDREN of bucket leaf // CHILDREN.
    """
    return _leaf(crc32(_text(key)))


class Places(Struct, frozen=True):
    """Some of a level's buckets or leaves, by number."""

    level: Level
    numbers: frozenset[int]

    def __contains__(self, key: ObjectKey) -> bool:
        leaf = leaf_of(key)
        return (leaf if self.level is LEAF else leaf // CHILDREN) in self.numbers

    def leaves(self) -> Iterator[int]:
        """The leaves that they have, in order."""
        each = LEAVES // self.level.number
        return (leaf for number in sorted(self.numbers) for leaf in range(number * each, (number + 1) * each))


def packed(digests: Iterable[int], level: Level) -> bytes:
    """The digests of one level side by side, to keep and to compare."""
    return array(level.code, digests).tobytes()


def level_of(digests: bytes) -> Level | None:
    """The level that these are all digests of; None for any other number of them."""
    return next((level for level in (BUCKET, LEAF) if len(digests) == level.size), None)


@lru_cache(maxsize=64)  # agents that were away together have the same digests
def differing(here: bytes, there: bytes) -> frozenset[int]:
    """The numbers of the buckets, or leaves, whose digests differ in two states' `packed` ones of one level."""
    code = BUCKET.code if len(here) == BUCKET.size else LEAF.code
    pairs = zip(memoryview(here).cast(code), memoryview(there).cast(code), strict=True)  # type: ignore[call-overload]
    return frozenset(number for number, (one, other) in enumerate(pairs) if one != other)


def _text(key: ObjectKey) -> bytes:
    kind, namespace, name = key
    return f"{int(kind)}\0{namespace}\0{name}".encode()


def _entry(text: bytes, hash_: int) -> int:
    return _int(blake2b(text + hash_.to_bytes(8, "little"), digest_size=8).digest(), "little")
