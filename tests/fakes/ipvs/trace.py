"""What becomes of a connection's first packet on the in-memory kernel, by its rules, its sets, its virtual servers.

Evaluates what was sent to that kernel, not our idea of it. Every endpoint that a virtual server may choose is followed.
Called by tests and experiments only.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_address, ip_network
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.names import place
from nodeagent.dataplane.ipvs.objects import BY_MARK, Held, VirtualKey
from tests.fakes.ipvs.memory import MemoryKernel

DROP, REJECT = "drop", "reject"
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58}
_GOES_ON = ""


class Packet(Struct, frozen=True):
    """On its way. `interface`: where it came in; the node's own packets have none."""

    source: bytes
    destination: bytes
    protocol: int
    port: int
    interface: str = ""
    mark: int = 0
    masqueraded: bool = False

    @property
    def family(self) -> int:
        return 4 if len(self.source) == 4 else 6


class Trace(NamedTuple):
    """Where a connection may end: endpoints with whether it is masqueraded, or the verdicts that stop it."""

    ends: frozenset[tuple[bytes, int, bool]]
    stopped: frozenset[str]


def trace(kernel: MemoryKernel, packet: Packet, node: Iterable[bytes]) -> Trace:
    """Follows a packet. From one of the addresses of `node` it is the node's own, to one of them it is delivered."""
    return _Way(kernel, frozenset(node)).run(packet)


class _Way:
    def __init__(self, kernel: MemoryKernel, node: frozenset[bytes]) -> None:
        self.kernel = kernel
        self.local = node | {address for _, address in kernel.addresses}
        link = next((index for index, name in kernel.links.items() if name == names.DEVICE), 0)
        self.ours = {address for index, address in kernel.addresses if index == link}
        self.node = node

    def run(self, packet: Packet) -> Trace:
        if packet.source in self.node:
            return self._own(packet)
        return self._arrived(self._table("nat", "PREROUTING", self._table("mangle", "PREROUTING", packet)))

    def _own(self, packet: Packet) -> Trace:
        """Towards an address of its own link the node has that address as its source."""
        sent = replace(packet, source=packet.destination) if packet.destination in self.ours else packet
        out = self._table("nat", "OUTPUT", self._table("mangle", "OUTPUT", sent))
        server = self._server(out)
        if server is None or isinstance(out, str):
            return self._arrived(out)
        found = self._scheduled(server, out)
        if sent is packet:
            return found
        if not all(masqueraded for _, _, masqueraded in found.ends):
            return Trace(frozenset(), frozenset({"an endpoint would answer to the wrong address"}))
        asked = self._table("nat", "OUTPUT", packet)  # whether that is as for everybody, or only for that source
        marked = not isinstance(asked, str) and self._posted(asked).masqueraded
        return Trace(frozenset((end, port, marked) for end, port, _ in found.ends), found.stopped)

    def _arrived(self, packet: Packet | str) -> Trace:
        if not isinstance(packet, str) and packet.destination not in self.local:
            return Trace(frozenset({(packet.destination, packet.port, False)}), frozenset())
        found = self._table("filter", "INPUT", self._table("mangle", "INPUT", packet))
        if isinstance(found, str):
            return Trace(frozenset(), frozenset({found}))
        server = self._server(found)
        if server is None:
            return Trace(frozenset({(found.destination, found.port, False)}), frozenset())
        return self._scheduled(server, found)

    # ------------------------------------------------------------ IPVS

    def _server(self, packet: Packet | str) -> Held | None:
        if isinstance(packet, str):
            return None
        virtuals, family = self.kernel.virtuals, packet.family
        by_mark = virtuals.get(VirtualKey(family, BY_MARK, b"", packet.mark)) if packet.mark else None
        by_address = VirtualKey(family, packet.protocol, packet.destination, packet.port)
        return by_mark or virtuals.get(by_address)

    def _scheduled(self, server: Held, packet: Packet) -> Trace:
        ends = set()
        for target, weight in server.reals.items():
            if weight:
                there = self._posted(replace(packet, destination=target.address, port=target.port))
                ends.add((target.address, target.port, there.masqueraded))
        return Trace(frozenset(ends), frozenset() if ends else frozenset({REJECT}))

    def _posted(self, packet: Packet) -> Packet:
        found = self._table("nat", "POSTROUTING", self._table("mangle", "POSTROUTING", packet))
        assert not isinstance(found, str), "nothing is stopped after routing"
        return found

    # ------------------------------------------------------------ rules

    def _table(self, table: str, hook: str, packet: Packet | str) -> Packet | str:
        """The packet as it leaves a hook, or what stops it."""
        if isinstance(packet, str):
            return packet
        verdict, left = self._chain(self.kernel.rules[packet.family].tables[table], hook, packet)
        return verdict if verdict in (DROP, REJECT) else left

    def _chain(self, chains: dict[str, list[str]], name: str, packet: Packet) -> tuple[str, Packet]:
        for rule in chains.get(name, ()):
            words = shlex.split(rule)
            place_of_target = words.index("-j")
            if not self._matches(words[:place_of_target], packet):
                continue
            target, options = words[place_of_target + 1], words[place_of_target + 2 :]
            if target == "RETURN":
                return _GOES_ON, packet
            if target in chains:
                verdict, packet = self._chain(chains, target, packet)
            else:
                verdict, packet = self._act(target, options, packet)
            if verdict:
                return verdict, packet
        return _GOES_ON, packet

    def _act(self, target: str, options: Sequence[str], packet: Packet) -> tuple[str, Packet]:
        if target == "MARK":
            value, mask = (int(text, 0) for text in options[1].split("/"))
            return _GOES_ON, replace(packet, mark=packet.mark & ~mask & 0xFFFFFFFF ^ value)
        if target == "SET":
            return _GOES_ON, replace(packet, mark=self._set(options[1], packet.family)[_key("dst,dst", packet)])
        if target == "MASQUERADE":
            return "accept", replace(packet, masqueraded=True)
        return target.lower(), packet

    def _matches(self, words: Sequence[str], packet: Packet) -> bool:
        return all(self._holds(option, value, packet) is not negated for negated, option, value in _options(words))

    def _holds(self, option: str, value: str, packet: Packet) -> bool:
        simple = {
            "-s": lambda: ip_address(packet.source) in ip_network(value),
            "-p": lambda: _PROTOCOLS[value] == packet.protocol,
            "-i": lambda: packet.interface.startswith(value[:-1]) if value.endswith("+") else packet.interface == value,
            "--src-type": lambda: packet.source in self.local,
            "--dst-type": lambda: packet.destination in self.local,
            "--ctstate": lambda: "NEW" in value.split(","),
            "--mark": lambda: _marked(value, packet.mark),
            "--match-set": lambda: self._in(value, packet),
        }
        return bool(simple[option]())

    def _in(self, value: str, packet: Packet) -> bool:
        name, _, way = value.partition(" ")
        members = self._set(name, packet.family)
        is_address = name in (names.IPVS_IPS, names.named(6, names.IPVS_IPS))
        key = packet.destination if is_address else _key(way, packet)
        if name.endswith(("SOURCE-CIDR", "SOURCE-CID")):
            return any(_covers(member, key) for member in members)
        return key in members

    def _set(self, name: str, family: int) -> dict[bytes, int]:
        known = next(ours for ours in names.TYPES if names.named(family, ours) == name)
        return self.kernel.sets[family, known]


def _options(words: Sequence[str]) -> Iterator[tuple[bool, str, str]]:
    """Whether it is negated, the option, its value; modules and comments left out."""
    negated, at = False, 0
    while at < len(words):
        word = words[at]
        if word == "!":
            negated, at = True, at + 1
            continue
        values = 2 if word == "--match-set" else 1
        if word not in ("-m", "--comment"):
            yield negated, word, " ".join(words[at + 1 : at + 1 + values])
        negated, at = False, at + 1 + values


def _key(way: str, packet: Packet) -> bytes:
    """What a set's directions take of a packet. Of the ports only the destination's is known."""
    port = packet.port.to_bytes(2, "big")
    where = place(packet.destination, packet.protocol, packet.port)
    if way == "dst":
        return port
    if way == "src,dst":
        return place(packet.source, packet.protocol, packet.port)
    return where + packet.source if way == "dst,dst,src" else where


def _marked(value: str, mark: int) -> bool:
    wanted, mask = (int(text, 0) for text in value.split("/"))
    return mark & mask == wanted


def _covers(member: bytes, key: bytes) -> bool:
    """Whether a member of hash:ip,port,net covers a key with a whole address."""
    width = (len(key) - 3) // 2
    head = width + 3
    if member[:head] != key[:head]:
        return False
    return ip_address(key[head:]) in ip_network((member[head:-1], member[-1]))
