"""What owners want, what the kernel has, and what of the two may differ: one structure for every driver. Pure.

A driver turns a Service into keys and values (`Tracker.hold`) and into members that several may share (`Members.hold`),
writes what is pending, and tells what it wrote. Setting a value back leaves a key pending; the driver finds no
difference then. Each step costs what changed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from typing import Generic, NamedTuple, TypeVar

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.set_members import OF_NODE

NODE = ObjectKey(Kind.NODE, "", "")  # the owner of what is the node's, and of what has no other owner
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Claim(NamedTuple, Generic[V]):
    """Who wants a key, and with which value."""

    owner: ObjectKey
    value: V


class Tracker(Generic[K, V]):
    """Keys that one owner has at a time, such as frontends. Whose a frontend is, is decided before (`resolver`)."""

    def __init__(self) -> None:
        self.desired: dict[K, Claim[V]] = {}
        self.actual: dict[K, V] = {}  # what the kernel has
        self.pending: dict[K, None] = {}  # keys that may differ, in the order in which they were wanted
        self._held: dict[ObjectKey, tuple[K, ...]] = {}

    def hold(self, owner: ObjectKey, values: Mapping[K, V]) -> None:
        """Takes all that an owner wants now. A key that was another's is this owner's from now on."""
        for key in self._held.get(owner, ()):
            if key not in values:
                del self.desired[key]
                self.pending[key] = None
        for key, value in values.items():
            before = self.desired.get(key)
            if before is None or before.owner != owner or before.value != value:
                self._take(key, before, Claim(owner, value))
            elif self.actual.get(key) is not value:
                self.pending[key] = None  # it may have failed, or stand in another order
        if values:
            self._held[owner] = tuple(values)
        else:
            self._held.pop(owner, None)

    def _take(self, key: K, before: Claim[V] | None, after: Claim[V]) -> None:
        if before is not None and before.owner != after.owner:
            self._held[before.owner] = tuple(held for held in self._held[before.owner] if held != key)
        self.desired[key] = after
        self.pending[key] = None

    def owners(self) -> list[ObjectKey]:
        """Everything that holds something."""
        return list(self._held)

    def undesired(self) -> list[K]:
        """What the kernel has and no owner wants."""
        return [key for key in self.actual if key not in self.desired]

    def forget(self, actual: Mapping[K, V] | None = None) -> None:
        """The kernel has `actual`, nothing if that is not said: everything wanted may differ."""
        self.actual = dict(actual or {})
        self.pending.update(dict.fromkeys(self.desired))

    def settle(self, key: K, value: V | None) -> None:
        """The kernel has this value now; None: it has the key no more."""
        if value is None:
            self.actual.pop(key, None)
        else:
            self.actual[key] = value
        self.pending.pop(key, None)

    def leave_out(self, goes: Callable[[K], bool]) -> None:
        """Forgets keys, whichever owner wants them."""
        for table in (self.desired, self.actual, self.pending):
            for key in [key for key in table if goes(key)]:
                del table[key]
        self._held = {owner: tuple(k for k in held if not goes(k)) for owner, held in self._held.items()}


class Members(Generic[K]):
    """Keys that stand while an owner wants them, such as members of sets."""

    def __init__(self, actual: set[K] | None = None) -> None:
        self.actual: set[K] = set() if actual is None else actual  # what the kernel has
        self.pending: dict[K, None] = {}
        self._wanted: Refcounts[K] = Refcounts()
        self._held: dict[ObjectKey, tuple[K, ...]] = {}

    def __contains__(self, member: K) -> bool:
        return member in self._wanted

    def __iter__(self) -> Iterator[K]:
        """What is wanted."""
        return iter(self._wanted)

    def hold(self, owner: ObjectKey, members: tuple[K, ...]) -> None:
        """Takes all that an owner wants now."""
        before = self._held.get(owner, ())
        if members == before:
            return
        known = set(before)
        for member in members:
            if member not in known:
                self._wanted.add(member, owner)
                self.pending[member] = None
        for member in set(before).difference(members):
            self._wanted.drop(member, owner)
            self.pending[member] = None
        if members:
            self._held[owner] = members
        else:
            del self._held[owner]

    def owner(self, member: K) -> ObjectKey | None:
        """One that wants it."""
        return self._wanted.first(member)

    def of(self, owner: ObjectKey) -> tuple[K, ...]:
        """What an owner wants."""
        return self._held.get(owner, ())

    def owners(self) -> list[ObjectKey]:
        """Everything that holds something."""
        return list(self._held)

    def undesired(self) -> list[K]:
        """What the kernel has and no owner wants."""
        return [member for member in self.actual if member not in self._wanted]

    def forget(self, actual: Iterable[K] = ()) -> None:
        """The kernel has `actual`: everything wanted may differ."""
        self.actual = set(actual)
        self.pending.update(dict.fromkeys(self._wanted))

    def settle(self, member: K, *, present: bool) -> None:
        """The kernel has it now, or has it no more."""
        (self.actual.add if present else self.actual.discard)(member)
        self.pending.pop(member, None)

    def leave_out(self, goes: Callable[[K], bool]) -> None:
        """Forgets members, whichever owner wants them."""
        self._wanted.leave_out(goes)
        self.actual = {member for member in self.actual if not goes(member)}
        self.pending = {member: None for member in self.pending if not goes(member)}
        self._held = {owner: tuple(m for m in held if not goes(m)) for owner, held in self._held.items()}


class Slots(Generic[V]):
    """Frontends (`frontend_key`) and set members (`set_members`) of all families: wanted, in the kernel, pending."""

    def __init__(self) -> None:
        self.frontends: Tracker[bytes, V] = Tracker()
        self.members: Members[bytes] = Members()
        self._node_known = False

    @property
    def pending(self) -> bool:
        """Whether any may differ."""
        return bool(self.frontends.pending or self.members.pending)

    def hold(self, owner: ObjectKey, placements: Mapping[bytes, V], members: tuple[bytes, ...] = ()) -> None:
        """Takes all that an owner wants now."""
        self._node_known = self._node_known or owner == NODE
        self.frontends.hold(owner, placements)
        self.members.hold(owner, members)

    def retire(self) -> None:
        """What the kernel has and no owner wants is to go; the node's own only once the node is known."""
        self.frontends.pending.update(dict.fromkeys(self.frontends.undesired()))
        gone = self.members.undesired()
        self.members.pending.update((m, None) for m in gone if self._node_known or m[1] not in OF_NODE)


class Refcounts(Generic[K]):
    """Who wants a member. A single owner is held as it is, which is what nearly all have; several in a dict.

    A few thousand Services may share an endpoint. Each step costs the same however many want a member.
    """

    def __init__(self) -> None:
        self._owners: dict[K, ObjectKey | dict[ObjectKey, None]] = {}

    def __contains__(self, member: K) -> bool:
        return member in self._owners

    def __iter__(self) -> Iterator[K]:
        return iter(self._owners)

    def first(self, member: K) -> ObjectKey | None:
        """One that wants it."""
        owners = self._owners.get(member)
        return next(iter(owners)) if isinstance(owners, dict) else owners

    def add(self, member: K, owner: ObjectKey) -> None:
        owners = self._owners.setdefault(member, owner)
        if isinstance(owners, dict):
            owners[owner] = None
        elif owners != owner:
            self._owners[member] = {owners: None, owner: None}

    def drop(self, member: K, owner: ObjectKey) -> None:
        owners = self._owners.get(member)
        if isinstance(owners, dict):
            owners.pop(owner, None)
            if len(owners) == 1:
                (self._owners[member],) = owners
        elif owners == owner:
            del self._owners[member]

    def leave_out(self, goes: Callable[[K], bool]) -> None:
        for member in [member for member in self._owners if goes(member)]:
            del self._owners[member]
