"""A kernel in memory: takes the same message bytes as the real one and refuses what it would refuse.

For tests and experiments, beside the real kernel behind the same seam (`kernel.Kernel`); the same cases run against
both. Holds virtual servers, sets, links with addresses, and rules as text; evaluating packets is `trace`'s.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator

from nodeagent.dataplane.ipvs import names, sets
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.kernel import Channel, Refusal
from nodeagent.dataplane.ipvs.objects import Held, Real, VirtualKey
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from tests.fakes.ipvs import answers
from tests.fakes.ipvs.restore import Rules

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh")
_IPVS = 29
_NAMES = {names.named(family, name): (family, name) for family in (4, 6) for name in names.TYPES}
_PER_LISTING = 300  # elements of one message


class Refused(Exception):
    """A message the kernel does not take."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code = code


class MemoryKernel:
    """Implements `kernel.Kernel`. `refusing`: an errno with which everything is refused."""

    ipvs = _IPVS

    def __init__(self, families: Iterable[int] = (4, 6), addresses: Iterable[bytes] = ()) -> None:
        self.virtuals: dict[VirtualKey, Held] = {}
        self.connections: dict[tuple[VirtualKey, object], int] = {}  # by virtual server and target
        self.sets: dict[tuple[int, str], dict[bytes, int]] = {}  # marks by key, by family and name for IPv4
        self.links: dict[int, str] = {1: "lo", 2: "eth0"}
        self.addresses: dict[tuple[int, bytes], None] = {(2, address): None for address in addresses}
        self.timeouts = (900, 120, 300)
        self.rules: dict[int, Rules] = {4: Rules(), 6: Rules()}
        self.refusing = 0
        self.sent: list[tuple[Channel, bytes]] = []
        self.listings = 0
        self._families = frozenset(families)

    def has(self, family: int) -> bool:
        return family in self._families

    def close(self) -> None:
        """Nothing to let go of."""

    def save(self, family: int) -> str:
        return self.rules[family].saved()

    def restore(self, family: int, text: str) -> None:
        if self.refusing:
            raise OSError(self.refusing, os.strerror(self.refusing))
        self.rules[family].restore(text)

    def send(self, channel: Channel, data: bytes, last: int) -> list[Refusal]:
        self.sent.append((channel, data))
        refused = []
        act = {Channel.IPVS: self._virtual, Channel.SETS: self._set, Channel.ROUTE: self._route}[channel]
        for kind, flags, sequence, body, _ in wire.frames(data):
            try:
                if self.refusing:
                    raise Refused(self.refusing)  # noqa: TRY301 - answered like any other
                act(kind, flags, body)
            except Refused as error:
                refused.append(Refusal(sequence, error.code))
        return refused

    def ask(self, channel: Channel, request: bytes) -> Iterator[bytes]:
        self.listings += 1
        kind, _, _, body, _ = next(wire.frames(request))
        if channel is Channel.ROUTE:
            return self._shown_route(kind, body)
        listing: Callable[[int, bytes], Iterator[bytes]]
        listing = self._shown_virtuals if channel is Channel.IPVS else self._shown_sets
        command = body[0] if channel is Channel.IPVS else kind & 0xFF
        return (b"\0\0\0\0" + found for found in listing(command, body[4:]))

    # ------------------------------------------------------------ IPVS

    def _virtual(self, kind: int, flags: int, body: bytes) -> None:
        command, given = body[0], body[4:]
        if command == codec.SET_CONFIG:
            self.timeouts = codec.read_timeouts(given)
            return
        found = codec.read_service(given)
        if found is None:
            raise Refused(errno.EAFNOSUPPORT)
        key, manner = found
        if command == codec.NEW_SERVICE:
            _check(key not in self.virtuals, errno.EEXIST)
            _check(manner.scheduler in SCHEDULERS, errno.ENOENT)
            self.virtuals[key] = Held(manner)
            return
        _check(key in self.virtuals, errno.ESRCH)
        if command == codec.SET_SERVICE:
            _check(manner.scheduler in SCHEDULERS, errno.ENOENT)
            self.virtuals[key].manner = manner
        elif command == codec.DEL_SERVICE:
            del self.virtuals[key]
        else:
            self._real(command, key, codec.read_dest(key.family, given))

    def _real(self, command: int, key: VirtualKey, real: Real) -> None:
        reals = self.virtuals[key].reals
        if command == codec.NEW_DEST:
            _check(real.target not in reals, errno.EEXIST)
        else:
            _check(real.target in reals, errno.ENOENT)
        if command == codec.DEL_DEST:
            del reals[real.target]
        else:
            _check(real.target.address[0] < (0xE0 if key.family == 4 else 0xFF), errno.EINVAL)  # multicast
            reals[real.target] = real.weight

    def _shown_virtuals(self, command: int, body: bytes) -> Iterator[bytes]:
        if command == codec.GET_SERVICE and not body:
            yield from [answers.virtual(key, held) for key, held in self.virtuals.items()]
            return
        if command == codec.GET_CONFIG:
            yield codec.timeouts(self.timeouts)
            return
        found = codec.read_service(body)
        if found is None or found[0] not in self.virtuals:
            raise OSError(errno.ESRCH, os.strerror(errno.ESRCH))
        key = found[0]
        if command == codec.GET_SERVICE:
            yield answers.virtual(key, self.virtuals[key])
            return
        for target, weight in self.virtuals[key].reals.items():
            yield answers.real(key.family, Real(target, weight, self.connections.get((key, target), 0)))

    # ------------------------------------------------------------ ipset

    def _set(self, kind: int, flags: int, body: bytes) -> None:
        command, given = kind & 0xFF, body[4:]
        found = self._named(given)
        if command == sets.CREATE:
            _check(found not in self.sets, errno.EEXIST)
            self.sets[found] = {}
            return
        _check(found in self.sets, errno.ENOENT)
        if command == sets.DESTROY:
            matched = f"--match-set {names.named(*found)} "
            _check(not any(matched in rules.saved() for rules in self.rules.values()), 4100)
            del self.sets[found]
            return
        kind_name, width = names.TYPES[found[1]], 4 if found[0] == 4 else 16
        if command == sets.TEST:
            one = wire.nest(sets.ADT, wire.nest(sets.DATA, wire.attributes(given)[sets.DATA]))
            (asked,) = sets.read_elements(kind_name, width, one)
            _check(asked[0] in self.sets[found], 4103)
            return
        for key, mark in sets.read_elements(kind_name, width, given):
            _check(len(key) == _length(kind_name, width), 4106)
            if command == sets.ADD:
                self.sets[found][key] = mark
            else:
                self.sets[found].pop(key, None)

    def _named(self, body: bytes) -> tuple[int, str]:
        name = wire.as_text(wire.attributes(body)[sets.SETNAME])
        return _NAMES.get(name, (0, name))

    def _shown_sets(self, command: int, body: bytes) -> Iterator[bytes]:
        if command == sets.TYPE:
            yield wire.number8(sets.REVISION, 7)
            return
        found = self._named(body)
        if found not in self.sets:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        members = list(self.sets[found].items())
        for start in range(0, len(members) or 1, _PER_LISTING):
            yield answers.elements(*found, members[start : start + _PER_LISTING])

    # ------------------------------------------------------------ links and addresses

    def _route(self, kind: int, flags: int, body: bytes) -> None:
        if kind in (rt.NEW_LINK, rt.DEL_LINK):
            self._link(kind, rt.read_link(body)[1])
            return
        if kind in (rt.NEW_ROUTE, rt.DELETE_ROUTE):
            return  # it has no sources
        given = rt.read_address(body)
        if given is None:
            raise Refused(errno.EINVAL)
        _check(given.link in self.links, errno.ENODEV)
        _check(len(given.address) == (4 if given.family == 4 else 16), errno.EINVAL)
        where = (given.link, given.address)
        if kind == rt.NEW_ADDRESS:
            _check(where not in self.addresses, errno.EEXIST)
            self.addresses[where] = None
        else:
            _check(where in self.addresses, errno.EADDRNOTAVAIL)
            del self.addresses[where]

    def _link(self, kind: int, name: str) -> None:
        index = self._index(name)
        if kind == rt.NEW_LINK:
            _check(not index, errno.EEXIST)
            self.links[max(self.links) + 1] = name
        else:
            _check(bool(index), errno.ENODEV)
            del self.links[index]
            self.addresses = {where: None for where in self.addresses if where[0] != index}

    def _index(self, name: str) -> int:
        return next((index for index, found in self.links.items() if found == name), 0)

    def _shown_route(self, kind: int, body: bytes) -> Iterator[bytes]:
        if kind == rt.GET_ADDRESS:
            for link, address in list(self.addresses):
                yield rt.address(rt.Address(rt.family_of(address), address, link))
            return
        if kind == rt.GET_ROUTE:
            asked = answers.asked(body)
            there = any(address == asked for _, address in self.addresses)
            yield answers.route(asked, local=there)
            return
        name = rt.read_link(body)[1]
        index = self._index(name)
        if not index:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))
        yield answers.link(index, name)


def _check(fine: bool, code: int) -> None:
    if not fine:
        raise Refused(code)


def _length(kind: str, width: int) -> int:
    """Bytes of a key."""
    return {
        names.HASH_IP: width, names.HASH_IP_PORT: width + 3, names.HASH_IP_PORT_IP: 2 * width + 3,
        names.HASH_IP_PORT_NET: 2 * width + 4, names.BITMAP_PORT: 2,
    }[kind]  # fmt: skip
