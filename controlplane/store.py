"""The cluster state of this replica: every object with its hash, and the digest of them all.

`controlplane.cluster` passes in facts; snapshots and inspection read it. A fact that changes nothing for a Service
proxy ends here. So does a fact that cannot be sent: it is refused before anything changes, its object stays as it was,
and the other facts go on. It knows no revisions and no agents.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, KeysView, ValuesView

from msgspec import Struct

from controlplane.facts import Fact
from deltaplane.codec import encode_op
from deltaplane.digest import LEAVES, Places, StateDigest, edit, object_hash
from deltaplane.model import EndpointSlice, Kind, Object, ObjectKey, Op, Remove, Upsert
from deltaplane.patch import difference
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

MAX_OBJECT_BYTES = 960 * 1024  # on the wire: with its envelope it fits into a message of 1 MiB
MAX_VERSION_DIGITS = 20
_SMALL_SLICE = 4000  # endpoints that always fit: each with a name of 64 bytes and four hints
_WIRE_KINDS = {kind: objects_pb2.Kind.ValueType(int(kind)) for kind in Kind}


class Origin(Struct, frozen=True, gc=False):
    """Why a change happened; agents get it as a Cause. Times are Unix nanoseconds, 0: unknown."""

    object: ObjectKey
    resource_version: str = ""
    traceparent: str = ""
    event_unix_nano: int = 0
    trigger_unix_nano: int = 0
    ingested_unix_nano: int = 0


class Change(Struct, frozen=True, gc=False):
    """One op that leads from the state before to the state after.

    `object` is the object afterwards (None: gone), `before` the one before (None: none): by it inspection knows what a
    node has that is behind. `size` is that of the op on the wire, in bytes; 0: not measured, because it was merged.
    `deleted` and `to_come` are those of the fact.
    """

    op: Op
    key: ObjectKey
    object: Object | None
    before: Object | None
    origin: Origin
    size: int
    deleted: bool = False
    to_come: int = 0

    @property
    def existed(self) -> bool:
        """Whether there was an object before."""
        return self.before is not None


class Unsendable(ValueError):
    """A fact that cannot be encoded, or is too large. The text says why."""


class Store:
    """Objects by key. One task owns it, and nothing waits. Calls `refused` for each fact that it cannot take."""

    def __init__(self, refused: Callable[[ObjectKey, str], None] | None = None) -> None:
        self._refused = refused or (lambda *_: None)
        self.digest = StateDigest()
        self.versions: dict[Kind, str] = {}  # the highest resourceVersion seen per kind since its last list
        self.newest: dict[Kind, int] = {}  # likewise, of objects alone: a list's own version is no object's
        self._objects: dict[ObjectKey, Object] = {}
        self._hashes: dict[ObjectKey, int] = {}
        self._seen: dict[ObjectKey, int] = {}  # the resourceVersion of each object that came last
        self._keys: dict[Kind, dict[ObjectKey, None]] = {kind: {} for kind in Kind}
        self.moves = dict.fromkeys(Kind, 0)  # how often an object of the kind has come or gone
        self._in_leaf: list[dict[ObjectKey, None]] = [{} for _ in range(LEAVES)]

    def __len__(self) -> int:
        return len(self._objects)

    def get(self, key: ObjectKey) -> Object | None:
        """The object, None if absent."""
        return self._objects.get(key)

    def hash_of(self, key: ObjectKey) -> int:
        """The object's hash; 0 if absent."""
        return self._hashes.get(key, 0)

    def seen(self, key: ObjectKey) -> int:
        """The resourceVersion of the object that came last, also one that changed nothing; -1: none, or no number."""
        return self._seen.get(key, -1)

    def keys(self, kind: Kind) -> KeysView[ObjectKey]:
        """The keys of a kind, in no particular order."""
        return self._keys[kind].keys()

    def objects(self) -> ValuesView[Object]:
        """All objects, in no particular order."""
        return self._objects.values()

    def within(self, places: Places) -> Iterator[Object]:
        """The objects of these places of the digest; costs nothing for the others."""
        return (self._objects[key] for leaf in places.leaves() for key in self._in_leaf[leaf])

    def count(self, kind: Kind) -> int:
        """How many objects of this kind there are."""
        return len(self._keys[kind])

    def update(self, facts: Iterable[Fact], ingested_unix_nano: int = 0) -> list[Change]:
        """Takes facts in order; returns the real changes in the same order."""
        changes = []
        for fact in facts:
            try:
                change = self._take(fact, ingested_unix_nano)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with one object, the others go on
                kind = "" if isinstance(error, Unsendable) else f"{type(error).__name__}: "
                self._refused(fact.key, f"{kind}{error}")
                continue
            if change is not None:
                changes.append(change)
        return changes

    def replace(
        self, kind: Kind, facts: Iterable[Fact], resource_version: str, ingested_unix_nano: int = 0
    ) -> list[Change]:
        """Takes a complete list of one kind: what is not in it is gone, what is equal is no change.

        The list's version counts even if it is lower than before: then the API server's store was restored, and of what
        was seen before nothing is in its history. Another replica may have listed it at a lower version.
        """
        restored = -1 < number_of(resource_version) < number_of(self.versions.get(kind, ""))
        listed = {fact.key: fact for fact in facts}
        gone = [Fact(key, None, resource_version) for key in self._keys[kind] if key not in listed]
        changes = self.update([*listed.values(), *gone], ingested_unix_nano)
        if number_of(resource_version) >= 0:
            self.versions[kind] = resource_version
            self.newest[kind] = min(self.newest.get(kind, -1), number_of(resource_version))
            if restored:
                self.newest[kind] = max((number_of(fact.resource_version) for fact in listed.values()), default=-1)
        return changes

    def _take(self, fact: Fact, ingested: int) -> Change | None:
        """Everything that can fail happens before `_put` changes the state."""
        key, new = fact.key, fact.object
        number = self._see(key.kind, fact.resource_version)
        old = self._objects.get(key)
        if old == new:
            if new is not None:
                self._seen[key] = number
            return None
        origin = Origin(key, fact.resource_version, "", fact.event_unix_nano, fact.trigger_unix_nano, ingested)
        op, new_hash = self._op(key, old, new)
        change = Change(op, key, new, old, origin, _size(op, new, origin), fact.deleted, fact.to_come)
        self._put(key, new, new_hash)
        if new is not None:
            self._seen[key] = number
        return change

    def _op(self, key: ObjectKey, old: Object | None, new: Object | None) -> tuple[Op, int | None]:
        if new is None:
            return Remove(key), None
        if isinstance(old, EndpointSlice) and isinstance(new, EndpointSlice):
            patch = difference(old, self._hashes[key], new)
            if patch is not None:
                return patch, patch.new_hash
        return Upsert(new), object_hash(new)

    def _put(self, key: ObjectKey, new: Object | None, new_hash: int | None) -> None:
        leaf, change = edit(key, self._hashes.get(key), new_hash)
        self.digest.toggle(leaf, change)
        if new is None or new_hash is None:
            self._seen.pop(key, None)
            self.moves[key.kind] += 1
            del self._objects[key], self._hashes[key], self._keys[key.kind][key], self._in_leaf[leaf][key]
        else:
            self.moves[key.kind] += key not in self._objects
            self._objects[key], self._hashes[key] = new, new_hash
            self._keys[key.kind][key] = self._in_leaf[leaf][key] = None

    def _see(self, kind: Kind, version: str) -> int:
        """Takes note of the version of a fact; returns it as a number."""
        number = number_of(version)
        if number > self.newest.get(kind, -1):
            self.newest[kind] = number
        if newer(version, self.versions.get(kind, "")):
            self.versions[kind] = version
        return number


def _size(op: Op, new: Object | None, origin: Origin) -> int:
    """The op's bytes on the wire. Raises `Unsendable`, and what protobuf raises, if it cannot be sent."""
    to_cause(origin)
    size = wire_size(op)
    if isinstance(new, EndpointSlice) and not isinstance(op, Upsert) and len(new.endpoints) > _SMALL_SLICE:
        whole = wire_size(Upsert(new))  # a snapshot has to carry the whole object
    else:
        whole = size
    if max(size, whole) > MAX_OBJECT_BYTES:
        raise Unsendable(f"takes {max(size, whole)} bytes on the wire, and {MAX_OBJECT_BYTES} is the limit")
    return size


def wire_size(op: Op) -> int:
    """Bytes of the op in a message."""
    one = objects_pb2.OpList()
    encode_op(op, one.ops)
    return one.ByteSize()


def to_cause(origin: Origin) -> pb.Cause:
    """The origin as its protobuf message."""
    kind, namespace, name = origin.object
    return pb.Cause(
        object=objects_pb2.ObjectKey(kind=_WIRE_KINDS[kind], namespace=namespace, name=name),
        resource_version=origin.resource_version,
        traceparent=origin.traceparent,
        event_unix_nano=origin.event_unix_nano,
        trigger_unix_nano=origin.trigger_unix_nano,
        ingested_unix_nano=origin.ingested_unix_nano,
    )


def newer(version: str, than: str) -> bool:
    """Whether the first resourceVersion is higher. They compare as numbers (KEP-5504); any other text is not newer."""
    return number_of(version) > number_of(than)


def number_of(version: str) -> int:
    """A resourceVersion as a number; -1 for any other text. They have 20 digits at most (uint64)."""
    return int(version) if len(version) <= MAX_VERSION_DIGITS and version.isascii() and version.isdecimal() else -1


def in_order(changes: Iterable[Change]) -> Iterator[Change]:
    """Orders changes: additions before removals; what others refer to is added first and removed last (S8)."""
    return iter(sorted(changes, key=_rank))


_ADDED = {Kind.NODE: 0, Kind.SERVICE_CIDR: 1, Kind.SERVICE: 2, Kind.ENDPOINT_SLICE: 3}


def _rank(change: Change) -> int:
    rank = _ADDED[change.key.kind]
    return rank if change.object is not None else 7 - rank
