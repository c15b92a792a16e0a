"""Hashes of objects and the digest of a whole state: how two ends know that they hold the same.

Called by the control plane's store and the agent's mirror. An object's hash covers every field of it but one; the
canonical bytes are the msgpack form of the value (field names included, https://msgpack.org), hashed with BLAKE2b (RFC
7693) to 64 bits. Hashes are equal on all replicas and releases that have the same fields.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from zlib import crc32

import msgspec

from deltaplane.model import Endpoint, EndpointSlice, Object, ObjectKey, Service

BUCKETS = 256

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
    """256 buckets, each the XOR over H(key, object hash) of the objects whose key falls into it (S5).

    Changing one object costs one or two hashes whatever the size of the state. `value` is the XOR of all buckets.
    """

    __slots__ = ("buckets", "value")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.value = 0

    def replace(self, key: ObjectKey, old: int | None, new: int | None) -> None:
        """The object `key` had hash `old` (None: was absent) and has `new` now (None: is gone)."""
        self.toggle(*edit(key, old, new))

    def toggle(self, bucket: int, change: int) -> None:
        """Applies what `edit` returned; applying it again takes it back."""
        self.buckets[bucket] ^= change
        self.value ^= change


def edit(key: ObjectKey, old: int | None, new: int | None) -> tuple[int, int]:
    """The bucket of `key`, and what to XOR onto it (and onto the value) when its hash goes from `old` to `new`."""
    text = _text(key)
    change = 0
    if old is not None:
        change = _entry(text, old)
    if new is not None:
        change ^= _entry(text, new)
    return crc32(text) & (BUCKETS - 1), change


def bucket_of(key: ObjectKey) -> int:
    """The bucket of `key`: 0 to BUCKETS - 1, the same on every replica and in every agent."""
    return crc32(_text(key)) & (BUCKETS - 1)


def differing(here: Sequence[int], there: Sequence[int]) -> frozenset[int]:
    """The buckets whose digests differ, of two states' BUCKETS each."""
    return frozenset(number for number in range(BUCKETS) if here[number] != there[number])


def _text(key: ObjectKey) -> bytes:
    kind, namespace, name = key
    return f"{int(kind)}\0{namespace}\0{name}".encode()


def _entry(text: bytes, hash_: int) -> int:
    return _int(blake2b(text + hash_.to_bytes(8, "little"), digest_size=8).digest(), "little")
