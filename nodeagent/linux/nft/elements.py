"""Set and map elements as the bytes of `NFTA_LIST_ELEM`: the hot path of every change.

`transaction` puts them into messages, `tables` reads them back. Values are already packed:
keys are concatenations padded to 4 bytes, slots are host-order numbers, endpoint values are address, port, two zero
bytes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from struct import Struct as Layout

from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.expressions import GOTO, verdict

SLOT = Layout("=I")
END = b"end"
_LIST_ELEMENT, _KEY, _DATA, _FLAGS, _VALUE = 1, 1, 2, 3, 1
_pack_slot = SLOT.pack

DROP_VERDICT = verdict(0)


@cache
def _key_head(size: int, rest: int) -> bytes:
    """The attribute headers before a key of `size` bytes, in an element with `rest` more bytes behind it."""
    pack = wire.ATTRIBUTE.pack
    return pack(12 + size + rest, _LIST_ELEMENT) + pack(8 + size, _KEY) + pack(4 + size, _VALUE)


@cache
def _value_head(size: int) -> bytes:
    return wire.ATTRIBUTE.pack(8 + size, _DATA) + wire.ATTRIBUTE.pack(4 + size, _VALUE)


@cache
def verdict_data(name: str) -> bytes:
    """The data of a verdict element: "drop", or the chain to go to."""
    return wire.nest(_DATA, DROP_VERDICT if name == "drop" else verdict(GOTO, name))


def member(key: bytes) -> bytes:
    """An element of a set; also what deletes an element of a map. Keys are a multiple of 4 bytes long."""
    size = len(key)
    return (_key_head(size, 0) + key) if size & 3 == 0 else wire.nest(_LIST_ELEMENT, wire.nest(_KEY, _plain(key)))


def dispatch(key: bytes, name: str) -> bytes:
    """An element of a verdict map."""
    data = verdict_data(name)
    if len(key) & 3:
        return wire.nest(_LIST_ELEMENT, wire.nest(_KEY, _plain(key)), data)
    return _key_head(len(key), len(data)) + key + data


def endpoint(key: bytes, slot: int, value: bytes) -> bytes:
    """An element of an endpoint map."""
    if (len(key) | len(value)) & 3:
        parts = wire.nest(_KEY, _plain(key + _pack_slot(slot))), wire.nest(_DATA, _plain(value))
        return wire.nest(_LIST_ELEMENT, *parts)
    size, width = len(key) + 4, len(value)
    return _key_head(size, width + 8) + key + _pack_slot(slot) + _value_head(width) + value


def endpoints(key: bytes, first: int, values: bytes, width: int) -> list[bytes]:
    """The elements of a whole list of endpoints, from slot `first` on: `endpoint` at a third of its cost."""
    if (len(key) | width) & 3:
        split = [values[start : start + width] for start in range(0, len(values), width)]
        return [endpoint(key, slot, value) for slot, value in enumerate(split, first)]
    head = _key_head(len(key) + 4, width + 8) + key
    middle, pack = _value_head(width), _pack_slot
    starts = range(0, len(values), width)
    return [head + pack(slot) + middle + values[start : start + width] for slot, start in enumerate(starts, first)]


def pair(key: bytes, value: bytes) -> bytes:
    """An element of a map from one plain value to another."""
    return wire.nest(_LIST_ELEMENT, wire.nest(_KEY, _plain(key)), wire.nest(_DATA, _plain(value)))


def slot_key(key: bytes, slot: int) -> bytes:
    return key + _pack_slot(slot)


def _plain(payload: bytes) -> bytes:
    """A value of odd length: no real key has one, and the kernel is to say so about that one object."""
    return wire.attribute(_VALUE, payload)


def parse(listed: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The (key, data) of each element in a list.

    Data is a value, a verdict attribute, empty for a set's member, and END where an interval set's range ends.
    """
    attribute, start, end = wire.ATTRIBUTE.unpack_from, 0, len(listed)
    while start + 12 <= end:
        length, _ = attribute(listed, start)
        size, kind = attribute(listed, start + 4)
        if kind != _KEY or length < 12:
            return
        inner, _ = attribute(listed, start + 8)  # the nest around it counts what pads a key of one byte
        key = listed[start + 12 : start + 8 + inner]
        behind, stop = start + 4 + (size + 3 & ~3), start + length
        yield key, _parse_data(listed, behind) if behind + 8 <= stop else b""
        start += length + 3 & ~3


def _parse_data(listed: bytes, start: int) -> bytes:
    size, kind = wire.ATTRIBUTE.unpack_from(listed, start)
    if kind == _FLAGS and listed[start + 7] & 1:
        return END
    if kind != _DATA:
        return b""
    inner, form = wire.ATTRIBUTE.unpack_from(listed, start + 4)
    return listed[start + 8 : start + 4 + inner] if form == _VALUE else listed[start + 4 : start + size]


def verdict_name(data: bytes) -> str:
    """What a verdict element says: "drop" or a chain's name. Inverse of `verdict_data`."""
    inner = wire.attributes(wire.attributes(data).get(2, b""))
    return wire.as_text(inner[2]) if 2 in inner else "drop"
