"""Messages of ipset, packed and read: pure. An element's key is laid out as `names` says.

After `linux/netfilter/ipset/ip_set.h`. A message adds or deletes many elements of one set; the kernel takes them in
order and stops at the first it refuses.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from struct import Struct as Layout
from typing import NamedTuple

from deltaplane.model import WIDTHS
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.names import BITMAP_PORT, HASH_IP, HASH_IP_PORT_IP, HASH_IP_PORT_NET
from nodeagent.linux.netlink import wire

SUBSYSTEM = 6  # NFNL_SUBSYS_IPSET
CREATE, DESTROY, LIST, ADD, DEL, TEST, TYPE = 2, 3, 7, 9, 10, 11, 13
PROTOCOL_VERSION = 6
LARGEST = 1 << 20  # elements of a hash
PER_MESSAGE = 400  # elements; their attribute's length has 16 bits

PROTOCOL, SETNAME, TYPENAME, REVISION, FAMILY, FLAGS, DATA, ADT, LINENO = range(1, 10)
_IP, _PORT, _PORT_TO, _PROTO, _CADT_FLAGS, _MAXELEM, _IP2, _CIDR2, _SKBMARK = 1, 4, 5, 7, 8, 19, 20, 21, 27
_NESTED, _NET = 0x8000, 0x4000  # NLA_F_NESTED, NLA_F_NET_BYTEORDER
_WITH_SKBINFO = 1 << 6  # IPSET_FLAG_WITH_SKBINFO
_ALL = 0xFFFFFFFF

_be16, _be32, _be64 = Layout(">H").pack, Layout(">I").pack, Layout(">Q").pack

# What the kernel says beside errno, from 4096 on: IPSET_ERR_...
ERRORS = {
    4097: "this kernel speaks another ipset protocol", 4098: "no such set type", 4099: "the set is full",
    4100: "in use by the kernel", 4101: "no such set to swap with", 4102: "set types differ", 4103: "there already",
    4104: "not there", 4105: "no such CIDR", 4106: "not of this IPv family", 4352: "the set is full",
    4353: "a network of length 0",
}  # fmt: skip


class Header(NamedTuple):
    """A set as it is, its elements aside."""

    type: str
    family: int  # AF number; 0 for bitmaps


def request(command: int, sequence: int, body: bytes, flags: int = 0) -> bytes:
    whole = wire.number8(PROTOCOL, PROTOCOL_VERSION) + body
    return wire.message((SUBSYSTEM << 8 | command, wire.REQUEST | flags, sequence), 0, whole)


def about(name: str) -> bytes:
    return wire.text(SETNAME, name)


def revision(kind: str) -> bytes:
    """Asks for the revisions of a type that the kernel has."""
    return wire.text(TYPENAME, kind) + wire.number8(FAMILY, 2)


def read_revision(body: bytes) -> int:
    """The newest."""
    return wire.attributes(body).get(REVISION, b"\0")[0]


def create(family: int, name: str, newest: int, called: str = "") -> bytes:
    """The set of ours that has this name for IPv4; or one `called` otherwise that is like it."""
    kind = names.TYPES[name]
    if kind == BITMAP_PORT:
        data = _net(_PORT, _be16(0)) + _net(_PORT_TO, _be16(0xFFFF))
    else:
        data = _net(_MAXELEM, _be32(LARGEST))
    if name in names.MARKED:
        data += _net(_CADT_FLAGS, _be32(_WITH_SKBINFO))
    af = 0 if kind == BITMAP_PORT else (2 if family == 4 else 10)
    return (
        about(called or names.named(family, name))
        + wire.text(TYPENAME, kind)
        + wire.number8(REVISION, newest)
        + wire.number8(FAMILY, af)
        + wire.attribute(_NESTED | DATA, data)
    )


def _net(kind: int, payload: bytes) -> bytes:
    return wire.attribute(_NET | kind, payload)


def _ip(kind: int, address: bytes) -> bytes:
    return wire.attribute(_NESTED | kind, _net(1 if len(address) == 4 else 2, address))


def data(kind: str, width: int, key: bytes, mark: int = 0) -> bytes:
    """The attributes of an element; `width` is the bytes of an address."""
    if kind == BITMAP_PORT:
        return _net(_PORT, key)
    packed = _ip(_IP, key[:width])
    if kind != HASH_IP:
        packed += _net(_PORT, key[width + 1 : width + 3]) + wire.number8(_PROTO, key[width])
    if kind in (HASH_IP_PORT_IP, HASH_IP_PORT_NET):
        packed += _ip(_IP2, key[width + 3 : 2 * width + 3])
    if kind == HASH_IP_PORT_NET:
        packed += wire.number8(_CIDR2, key[-1])
    return packed + (_net(_SKBMARK, _be64(mark << 32 | _ALL)) if mark else b"")


def change(family: int, name: str, elements: Sequence[tuple[bytes, int]]) -> bytes:
    """The body that adds or deletes elements (key, mark)."""
    kind, width = names.TYPES[name], WIDTHS[family]
    parts = [wire.attribute(_NESTED | DATA, data(kind, width, key, mark)) for key, mark in elements]
    return about(names.named(family, name)) + _net(LINENO, _be32(0)) + wire.attribute(_NESTED | ADT, b"".join(parts))


def test(family: int, name: str, key: bytes) -> bytes:
    """The body that asks whether an element is there; the kernel refuses with IPSET_ERR_EXIST where it is not."""
    kind, width = names.TYPES[name], WIDTHS[family]
    return about(names.named(family, name)) + wire.attribute(_NESTED | DATA, data(kind, width, key))


def read_header(body: bytes) -> Header | None:
    """What a message of a listing says of the set; None in those that have elements only."""
    given = wire.attributes(body)
    if TYPENAME not in given:
        return None
    return Header(wire.as_text(given[TYPENAME]), given.get(FAMILY, b"\0")[0])


def read_elements(kind: str, width: int, body: bytes) -> Iterator[tuple[bytes, int]]:
    """The elements of one message of a listing or a change: key and mark."""
    for entry in wire.payloads(wire.attributes(body).get(ADT, b""), DATA):
        given = wire.attributes(entry)
        mark = int.from_bytes(given.get(_SKBMARK, b""), "big") >> 32
        yield _key(kind, width, given), mark


def _key(kind: str, width: int, given: dict[int, bytes]) -> bytes:
    port = given.get(_PORT, b"")
    if kind == BITMAP_PORT:
        return port
    key = _address(given.get(_IP, b""))
    if kind != HASH_IP:
        key += given.get(_PROTO, b"\0") + port
    if kind in (HASH_IP_PORT_IP, HASH_IP_PORT_NET):
        key += _address(given.get(_IP2, b""))
    if kind == HASH_IP_PORT_NET:
        key += given.get(_CIDR2, bytes((8 * width,)))
    return key


def _address(nested: bytes) -> bytes:
    given = wire.attributes(nested)
    return given.get(1, given.get(2, b""))
