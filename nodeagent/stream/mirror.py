"""What this agent knows of the cluster: the objects of the last snapshot and the deltas since.

Called by the agent's session alone, which decides what may enter; read by the agent (resolve) and its inspection. It
knows no revisions, no wire and no kernel. Every change is prepared first (checked, nothing touched) and then taken in
whole, and says which Services and nodes it touched.

An object that this node must not act on (`deltaplane.validation`: from a broken, hostile or newer replica) is held, so
that digests stay comparable, and is listed in `invalid`; `services`, `nodes` and slices have its last valid form.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from deltaplane.digest import Places, StateDigest, edit, object_hash
from deltaplane.model import (
    Endpoint,
    EndpointSlice,
    Kind,
    Node,
    Object,
    ObjectKey,
    Op,
    Patch,
    Remove,
    Service,
    ServiceCidr,
    ServiceName,
    Unsupported,
    Upsert,
)
from deltaplane.patch import apply_patch
from deltaplane.validation import endpoints_problem, problem


class RejectedError(Exception):
    """A change that does not fit what the mirror holds; nothing of it was taken in."""


class Touched(Struct, frozen=True):
    """What a change may have altered: Services (by themselves or their slices), nodes, the ranges of ClusterIPs."""

    services: frozenset[ServiceName] = frozenset()
    nodes: frozenset[str] = frozenset()
    service_cidrs: bool = False  # `Mirror.service_cidrs` is another tuple now
    changed: tuple[int, int] = (0, 0)  # how many Services and EndpointSlices are other objects now
    came: tuple[EndpointSlice, ...] = ()  # slices, each with those endpoints alone that are new or other ones now

    @classmethod
    def union(cls, every: Iterable[Touched]) -> Touched:
        """What changes in a row may have altered; `came` has what came with any of them."""
        all_of = tuple(every)
        return cls(
            frozenset().union(*(one.services for one in all_of)),
            frozenset().union(*(one.nodes for one in all_of)),
            any(one.service_cidrs for one in all_of),
            (sum(one.changed[0] for one in all_of), sum(one.changed[1] for one in all_of)),
            tuple(each for one in all_of for each in one.came),
        )


class Edit(Struct, frozen=True, gc=False):
    """One object before and after, with its hash after; None: absent."""

    key: ObjectKey
    old: Object | None
    new: Object | None
    new_hash: int | None
    leaf: int
    change: int  # XORed onto the digest
    wrong: str = ""  # why nothing may act on `new`
    came: tuple[Endpoint, ...] | None = None  # of a slice, those that are new or other ones; None: any of `new` may be


class Plan(Struct, frozen=True):
    """A checked change that has not been taken in; `digest` is the state digest it leads to."""

    edits: tuple[Edit, ...]
    digest: int
    unsupported: int = 0
    services_removed: int = 0


class Mirror:
    """Objects by key, slices by Service.

    The state is what the replica says, so that digests agree. The tables by which Services are resolved have only what
    is valid: an object whose content is not stays there as it was last good, and stands in `invalid` with what is wrong
    (`field: reason`), until a good version comes or it goes. 10,000 Services with 10 endpoints each take about
    25 MB.
    """

    def __init__(self) -> None:
        self.services: dict[ServiceName, Service] = {}
        self.nodes: dict[str, Node] = {}
        self._service_cidrs: dict[str, ServiceCidr] = {}
        self.digest = StateDigest()
        self._objects: dict[ObjectKey, Object] = {}
        self._hashes: dict[ObjectKey, int] = {}
        self._slices: dict[ServiceName, tuple[EndpointSlice, ...]] = {}
        self.invalid: dict[ObjectKey, str] = {}
        self._last_good: dict[ObjectKey, Object | None] = {}  # of those in `invalid`

    def __len__(self) -> int:
        return len(self._objects)

    def objects(self) -> Iterable[Object]:
        """All objects, in no particular order."""
        return self._objects.values()

    def get(self, key: ObjectKey) -> Object | None:
        """The object, None if absent."""
        return self._objects.get(key)

    def hash_of(self, key: ObjectKey) -> int:
        """The object's hash, 0 if absent."""
        return self._hashes.get(key, 0)

    def slices_of(self, namespace: str, name: str) -> tuple[EndpointSlice, ...]:
        """The EndpointSlices of a Service, sorted by name; the Service itself may be unknown."""
        return self._slices.get((namespace, name), ())

    @property
    def service_cidrs(self) -> tuple[str, ...]:
        """Where ClusterIPs come from: the CIDRs of all ServiceCIDRs, once each and sorted as text; they may overlap."""
        return tuple(sorted({cidr for held in self._service_cidrs.values() for cidr in held.cidrs}))

    # ------------------------------------------------------------ prepare

    def prepare(self, ops: Iterable[Op]) -> Plan:
        """What these ops would do, checked. Raises `RejectedError` on an unknown patch base or result (S13)."""
        edits: list[Edit] = []
        unsupported = 0
        for op in ops:
            if isinstance(op, Unsupported):
                unsupported += 1
            else:
                edits += self._edit_of(op)
        return self._plan(edits, unsupported)

    def prepare_replace(self, objects: Mapping[ObjectKey, Object], places: Places | None = None) -> Plan:
        """What a complete list would do: what it lacks is gone (S6), what is equal is no change.

        `places`: the list is complete for these places of the digest, and says nothing of the others.
        """
        lacking = (key for key in self._objects if key not in objects)
        edits = [
            self._edit(key, None, None) for key in lacking if places is None or key in places
        ]  # removals may come first here: a plan is taken in whole
        for key, new in objects.items():
            if self._objects.get(key) != new:
                edits.append(self._edit(key, new, object_hash(new), problem(new, key)))
        return self._plan(edits, 0)

    def _edit_of(self, op: Upsert | Remove | Patch) -> Sequence[Edit]:
        if isinstance(op, Patch):
            return (self._patched(op),)
        if isinstance(op, Upsert):
            return (self._edit(op.key, op.object, object_hash(op.object), problem(op.object)),)
        return (self._edit(op.key, None, None),) if op.key in self._objects else ()

    def _patched(self, patch: Patch) -> Edit:
        old = self._objects.get(patch.key)
        if not isinstance(old, EndpointSlice) or self._hashes[patch.key] != patch.base_hash:
            raise RejectedError(f"{patch.key}: patch for base {patch.base_hash:016x}, which is not what is held")
        new, new_hash = apply_patch(old, patch)
        if new_hash != patch.new_hash:
            raise RejectedError(f"{patch.key}: patched to {new_hash:016x} instead of {patch.new_hash:016x}")
        wrong = problem(new) if patch.key in self.invalid else endpoints_problem(patch.upserts)
        return self._edit(patch.key, new, new_hash, wrong, patch.upserts)

    def _edit(
        self,
        key: ObjectKey,
        new: Object | None,
        new_hash: int | None,
        wrong: str = "",
        came: tuple[Endpoint, ...] | None = None,
    ) -> Edit:
        change = edit(key, self._hashes.get(key), new_hash)
        return Edit(key, self._objects.get(key), new, new_hash, *change, wrong, came)

    def _plan(self, edits: Sequence[Edit], unsupported: int) -> Plan:
        digest = self.digest.value
        removed = 0
        for item in edits:
            digest ^= item.change
            removed += item.new is None and item.key.kind == Kind.SERVICE
        return Plan(tuple(edits), digest, unsupported, removed)

    # ------------------------------------------------------------ take in

    def commit(self, plan: Plan) -> Touched:
        """Takes in a plan made from the present state; no other change may have come between."""
        services: dict[ServiceName, ServiceName] = {}  # one tuple stands for a name in all tables
        nodes: set[str] = set()
        came: list[EndpointSlice] = []
        ranges = self.service_cidrs
        for item in plan.edits:
            key = item.key
            self.digest.toggle(item.leaf, item.change)
            if item.new is None or item.new_hash is None:
                del self._objects[key], self._hashes[key]
            else:
                self._objects[key], self._hashes[key] = item.new, item.new_hash
            if item.wrong or key in self.invalid:
                item = self._judged(item)  # noqa: PLW2901 - from here on, what the node acts on
            self._index(item, services, nodes)
            came += _came(item)
        kinds = [item.key.kind for item in plan.edits]
        changed = kinds.count(Kind.SERVICE), kinds.count(Kind.ENDPOINT_SLICE)
        return Touched(frozenset(services), frozenset(nodes), self.service_cidrs != ranges, changed, tuple(came))

    def _judged(self, item: Edit) -> Edit:
        """The edit as the node acts on it: from the last good object to the next one."""
        good = self._last_good.pop(item.key, item.old)
        self.invalid.pop(item.key, None)
        if not item.wrong:
            return replace(item, old=good, came=None)
        self.invalid[item.key], self._last_good[item.key] = item.wrong, good
        return replace(item, old=good, new=good, came=())

    def _index(self, item: Edit, services: dict[ServiceName, ServiceName], nodes: set[str]) -> None:
        kind, namespace, name = item.key
        if kind == Kind.ENDPOINT_SLICE:
            self._index_slice(item, services)
        elif kind == Kind.SERVICE:
            owner = (namespace, name)
            _put(self.services, services.setdefault(owner, owner), item.new)
        elif kind == Kind.NODE:
            nodes.add(name)
            _put(self.nodes, name, item.new)
        elif kind == Kind.SERVICE_CIDR:
            _put(self._service_cidrs, name, item.new)

    def _index_slice(self, item: Edit, services: dict[ServiceName, ServiceName]) -> None:
        for side, new in ((item.old, None), (item.new, item.new)):
            if isinstance(side, EndpointSlice):
                owner = (side.namespace, side.service)
                self._reindex(services.setdefault(owner, owner), side.name, new)

    def _reindex(self, owner: ServiceName, name: str, new: Object | None) -> None:
        held = self._slices.get(owner, ())
        if not held and isinstance(new, EndpointSlice):
            self._slices[owner] = (new,)
            return
        slices = [slice_ for slice_ in held if slice_.name != name]
        if isinstance(new, EndpointSlice):
            slices.append(new)
            slices.sort(key=lambda slice_: slice_.name)
        _put(self._slices, owner, tuple(slices) or None)


def _came(item: Edit) -> Iterator[EndpointSlice]:
    new = item.new
    if isinstance(new, EndpointSlice) and (item.came is None or item.came):
        yield new if item.came is None else replace(new, endpoints=item.came)


def _put(table: dict, key: object, value: object) -> None:  # type: ignore[type-arg]
    if value is None:
        table.pop(key, None)
    else:
        table[key] = value
