"""Redirects read back for people, as `nodeagent.dataplane.read_back` has frontends and members. Changes nothing.

A redirect leads to a listener of this process, whose list is the proxy's own: that is as far as the kernel knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from deltaplane.forwarding import Target
from nodeagent.dataplane.read_back import Found, Written
from nodeagent.dataplane.set_members import name_of
from nodeagent.dataplane.tracker import NODE
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.listener_manager import ListenerManager
from nodeagent.dataplane.userspace.plan import Line, Plan
from nodeagent.dataplane.userspace.tracker import Placement, Slots

Standing = Callable[[Iterable[bytes]], Mapping[bytes, Placement]]
_OUTSIDE = (t.OUTSIDE, t.NODE_PORTS_OUTSIDE, t.REFUSALS_OUTSIDE, t.NODE_REFUSALS_OUTSIDE)


class Reading:
    """For the Services and frontends in question."""

    def __init__(
        self,
        keys: Sequence[bytes],
        plans: Sequence[Plan],
        listeners: ListenerManager,
        slots: Slots,
        shows: Callable[[bytes], bool],
    ) -> None:
        self._keys, self._plans, self._listeners, self._slots = keys, plans, listeners, slots
        families = {key[0] for key in keys}
        own = (member for each in plans for member in each.cluster_ips)
        everything = (member for member in (*slots.members.of(NODE), *own) if member[0] in families)
        self._members = [member for member in everything if shows(member)]

    def wanted(self) -> Found:
        """What is to stand."""
        routes = {slot: placed for each in self._plans for slot, placed in self._listeners.placements(each).items()}
        lines = {port: line for each in self._plans for port, line in each.lines.items()}
        at = {value: lines[port] for port in lines if (value := self._listeners.value(port))}
        return Found({slot: _written(placed, at.get) for slot, placed in routes.items()}, _named(self._members))

    def account(self) -> Found:
        """What the agent believes to stand."""
        there = {key: placed for key in self._keys if (placed := self._slots.frontends.actual.get(key))}
        members = [member for member in self._members if member in self._slots.members.actual]
        return self._found(there, members)

    def look(self, standing: Standing) -> Found:
        """What stands."""
        found = standing([*self._keys, *self._members])
        there = {key: found[key] for key in self._keys if key in found}
        return self._found(there, [member for member in self._members if member in found])

    def _found(self, there: Mapping[bytes, Placement], members: Iterable[bytes]) -> Found:
        written = {key: _written(placed, self._listeners.line_at) for key, placed in there.items()}
        return Found(written, _named(members))


def _named(members: Iterable[bytes]) -> frozenset[str]:
    return frozenset(map(name_of, members))


def _written(placement: Placement, line_at: Callable[[bytes], Line | None]) -> Written:
    """What redirects and refusals say of a frontend."""
    lists: dict[bool, tuple[Target, ...]] = {False: (), True: ()}
    refusal = ""
    for name, value in placement:
        if isinstance(value, bytes):
            line = line_at(value)
            lists[name in _OUTSIDE] = line.targets if line is not None else ()
        elif name not in _OUTSIDE:
            refusal = value
    return Written(lists[False], lists[True], refusal, ", ".join(_words(placement, line_at)))


def _words(placement: Placement, line_at: Callable[[bytes], Line | None]) -> Iterator[str]:
    for name, value in placement:
        whose = " for sources outside" if name in _OUTSIDE else ""
        if isinstance(value, str):
            yield f"{value}{whose}"
            continue
        address, port = ip_address(value[:-4]), int.from_bytes(value[-4:-2], "big")
        at = f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
        nobody = "" if line_at(value) is not None else ", where nobody listens for a Service"
        yield f"redirect{whose} to {at}{nobody}"
