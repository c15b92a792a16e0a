"""What the kernel holds of ours, as it was read and as we have written it since. Pure.

Ours is a virtual server whose address is on our link, or that one of our sets knows: by address and port, or, at an
address of another link, by the port among the node ports; and those by mark whose mark is in our range. Everything else
is another program's and is never touched; neither is what lies in the excluded CIDRs ever deleted.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from deltaplane.model import Protocol
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.names import Element, place
from nodeagent.dataplane.ipvs.objects import BY_MARK, Held, VirtualKey, mark_key
from nodeagent.dataplane.ipvs.rules import MARKS, MARKS_MASK
from nodeagent.dataplane.local_traffic import Network

_MARKS_OF = 1 << 24


class State:
    """The kernel's side."""

    def __init__(self) -> None:
        self.virtuals: dict[VirtualKey, Held] = {}
        self.elements: set[Element] = set()
        self.marks: dict[VirtualKey, int] = {}  # of addresses and ports whose outside sources have a list of their own
        self.others: frozenset[bytes] = frozenset()  # the addresses of other links
        self.link = 0  # index of ours; 0: there is none
        self._marked: dict[int, VirtualKey] = {}
        self._next = 0

    def clear(self) -> None:
        """Forgets all."""
        self.virtuals.clear()
        self.elements.clear()
        self.marks.clear()
        self._marked.clear()
        self.link = 0

    def is_ours(self, key: VirtualKey) -> bool:
        """Whether a virtual server that was found is ours; sets and addresses must have been read before."""
        family, protocol, address, port = key
        if protocol == BY_MARK:
            return port & MARKS_MASK == MARKS
        if Element(family, names.ADDRESS, address) in self.elements:
            return True
        where = place(address, protocol, port)
        if any(Element(family, name, where) in self.elements for name in names.KNOWN):
            return True
        number = where if protocol == Protocol.SCTP else port.to_bytes(2, "big")
        known = names.NODE_PORT.get(protocol)
        return known is not None and address in self.others and Element(family, known, number) in self.elements

    def mark(self, key: VirtualKey) -> int:
        """The mark for outside sources at an address and port; the same every time."""
        if key not in self.marks:
            self.note_mark(key, self._free(key.family))
        return self.marks[key]

    def note_mark(self, key: VirtualKey, mark: int) -> None:
        self.marks[key] = mark
        self._marked[mark] = key

    def forget_mark(self, key: VirtualKey) -> None:
        self._marked.pop(self.marks.pop(key, 0), None)

    def _free(self, family: int) -> int:
        """None that a virtual server has which an agent that was killed could not name any more."""
        for _ in range(_MARKS_OF):
            self._next = self._next % (_MARKS_OF - 1) + 1
            mark = MARKS | self._next
            if mark not in self._marked and mark_key(family, mark) not in self.virtuals:
                return mark
        raise ValueError("every packet mark is taken")


def excluded(key: VirtualKey, networks: Iterable[Network]) -> bool:
    """Whether a virtual server lies in one of these networks."""
    if not key.address:
        return False
    address = ip_address(key.address)
    return any(address.version == network.version and address in network for network in networks)
