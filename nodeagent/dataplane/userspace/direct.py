"""The last resort, without a redirect: listening at the very addresses of Services, where this machine has them.

Somebody else has to bring the traffic here and give the machine the addresses, such as `ip addr add` on the loopback
interface. `dataplane` calls this through `Redirects`; sockets are opened by the proxy. What rules would do besides is
missing: sources are not told apart, so under Local policy all have this node's own endpoints, what should be dropped is
refused, and addresses that are not here are reported. A node port answers at the node's addresses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from nodeagent.dataplane.nftables import naming, render
from nodeagent.dataplane.nftables.render import is_node_port
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.redirects import Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import STANDS, Difference, Placement, is_frontend

_LOOPBACK = {4: b"\x7f\0\0\1", 6: bytes(15) + b"\1"}
_ANY = {4: bytes(4), 6: bytes(16)}
_OUTSIDE_FIRST = (t.OUTSIDE, t.NODE_PORTS_OUTSIDE, t.REDIRECTS, t.NODE_PORTS)
_CLOSED = (t.REFUSALS_OUTSIDE, t.NODE_REFUSALS_OUTSIDE)


class Door(NamedTuple):
    """A place to listen at besides, for the listener of this protocol at `number`."""

    family: int
    protocol: int
    number: int
    address: bytes
    port: int


Open = Callable[[Iterable[Door], Iterable[Door]], dict[Door, str]]
"""Opens some doors, after closing others; which could not be opened, and why."""


class DirectRedirects:
    """Implements `Redirects`; `doors` is the proxy's, set once that is there."""

    kind = "listening at the Services' own addresses"
    foreign = False
    families = frozenset((4, 6))

    def __init__(self) -> None:
        self.doors: Open = lambda _opening, _closing: {}
        self._wanted: dict[bytes, Placement] = {}  # by frontend
        self._open: dict[bytes, set[Door]] = {}
        self._members: set[bytes] = set()

    def place(self, family: int) -> bytes:
        """Listeners stand at localhost; doors lead to them."""
        return _LOOPBACK[family]

    def configure(self, settings: Settings) -> None:
        """Nothing of it matters here."""

    def read(self) -> dict[bytes, Placement]:
        """Sockets end with their process: what stands is what this one opened."""
        return {**self._wanted, **dict.fromkeys(self._members, STANDS)}

    def write(self, differences: Sequence[Difference], *, again: bool = False) -> Written:
        """See `Redirects.write`."""
        sent = Written()
        frontends = [difference for difference in differences if is_frontend(difference.slot)]
        members = [difference for difference in differences if not is_frontend(difference.slot)]
        for owner, slot, _, after in members:
            (self._members.add if after else self._members.discard)(slot)
            sent.done.append(Difference(owner, slot, (), after))
        if members:
            self._move([slot for slot in self._wanted if is_node_port(slot)])
        for difference in frontends:
            self._wanted[difference.slot] = difference.after
        failed = self._move([difference.slot for difference in frontends])
        for difference in frontends:
            self._settle(difference, failed.get(difference.slot, ""), sent)
        sent.elements = len(frontends)
        return sent

    def _settle(self, difference: Difference, why: str, sent: Written) -> None:
        if why:
            text = f"{naming.name_of(difference.slot)} cannot be listened at ({why}): give this machine the address"
            sent.refused.append((difference, text))
        else:
            sent.done.append(difference)
        if why or not difference.after:
            self._wanted.pop(difference.slot, None)

    def _move(self, slots: Iterable[bytes]) -> dict[bytes, str]:
        """Opens and closes what differs; the slots that lack a door, and why."""
        wanted = {slot: set(self._doors(slot)) for slot in slots}
        opening = {door: slot for slot, doors in wanted.items() for door in doors - self._open.get(slot, set())}
        closing = [door for slot, doors in wanted.items() for door in self._open.get(slot, set()) - doors]
        failed = self.doors(opening, closing)
        for slot, doors in wanted.items():
            self._open[slot] = doors - failed.keys()
        return {opening[door]: why for door, why in failed.items()}

    def _doors(self, slot: bytes) -> Iterator[Door]:
        held = dict(self._wanted.get(slot, ()))
        value = next((held[name] for name in _OUTSIDE_FIRST if name in held), b"")
        if not isinstance(value, bytes) or not value or any(name in held for name in _CLOSED):
            return
        number, port = int.from_bytes(value[-4:-2], "big"), int.from_bytes(slot[-4:-2], "big")
        for address in self._addresses(slot) if is_node_port(slot) else (slot[1:-8],):
            yield Door(slot[0], slot[-8], number, address, port)

    def _addresses(self, slot: bytes) -> Iterator[bytes]:
        """Where node ports answer; all of the machine is one door, on every address."""
        family, protocol = slot[0], slot[-8]
        if bytes((family, render.ANYWHERE_MEMBER, protocol)) in self._members:
            yield _ANY[family]
            return
        for member in self._members:
            if member[0] == family and member[1] == render.NODE_PORT_MEMBER:
                yield member[2:]

    def fileno(self) -> int:
        return -1

    def drifted(self) -> bool:
        return False

    def close(self) -> None:
        """The sockets are the proxy's."""
