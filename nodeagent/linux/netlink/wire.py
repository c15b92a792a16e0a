"""Netlink framing: headers, attributes and sockets' bytes, packed and parsed with `struct` alone. Pure.

Everything that speaks netlink to a kernel, real or in memory, goes through these functions. Knows the layout of
`linux/netlink.h` and `linux/netfilter/nfnetlink.h`; does not know what a table, a link or a set is.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from struct import Struct as Layout
from typing import NamedTuple

from nodeagent.linux.text import name

HEADER = Layout("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
GENERIC = Layout(">BBH")  # nfgenmsg: family, version, resource id; the resource id is big-endian
ATTRIBUTE = Layout("=HH")  # nlattr: length, type
PREFIX = HEADER.size + GENERIC.size

REQUEST, ACK = 0x1, 0x4
DUMP, CREATE, EXCLUSIVE, APPEND = 0x300, 0x400, 0x200, 0x800
CAPPED, ACK_TLVS = 0x100, 0x200  # flags of an acknowledgement
ERROR, DONE = 2, 3
TYPE_MASK = 0x3FFF

SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
BATCH_BEGIN, BATCH_END = 16, 17
ERROR_OFFSET = 2  # NLMSGERR_ATTR_OFFS

_u8, _be32, _be64 = Layout("=B"), Layout(">I"), Layout(">Q")
_PADS = (b"", b"\0\0\0", b"\0\0", b"\0")


class Frame(NamedTuple):
    """One netlink message of any kind; `body` is what follows netlink's own header, `port` the sender."""

    type: int
    flags: int
    sequence: int
    body: bytes
    port: int = 0


class Message(NamedTuple):
    """One nfnetlink message: its type (subsystem included), flags, sequence number, family, attributes, sender."""

    type: int
    flags: int
    sequence: int
    family: int
    body: bytes
    port: int = 0


class Reply(NamedTuple):
    """What the kernel says of one request: an errno (0: done) and, if it names one, the bad attribute's offset."""

    sequence: int
    errno: int
    offset: int = -1  # from the start of the request's nlmsghdr


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes. Raises `struct.error` above 65,531 bytes."""
    length = len(payload)
    return ATTRIBUTE.pack(length + 4, kind) + payload + _PADS[length & 3]


def nest(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds others, without the nesting flag: nf_tables neither asks for it nor writes it."""
    return attribute(kind, b"".join(parts))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, name(value).encode() + b"\0")


def number8(kind: int, value: int) -> bytes:
    return attribute(kind, _u8.pack(value))


def number(kind: int, value: int) -> bytes:
    """A 32-bit number; nf_tables has them big-endian, negative ones as two's complement."""
    return attribute(kind, _be32.pack(value & 0xFFFFFFFF))


def number64(kind: int, value: int) -> bytes:
    return attribute(kind, _be64.pack(value))


def as_number(payload: bytes | memoryview) -> int:
    return int.from_bytes(payload, "big")


def as_text(payload: bytes | memoryview) -> str:
    return bytes(payload).rstrip(b"\0").decode()


def each_attribute(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int]]:
    """The (type, payload start, payload end) of every attribute in `data[start:end]`."""
    end = len(data) if end is None else end
    while start + 4 <= end:
        length, kind = ATTRIBUTE.unpack_from(data, start)
        if length < 4 or start + length > end:
            return
        yield kind & TYPE_MASK, start + 4, start + length
        start += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of `data` by type; of repeated ones the last."""
    return {kind: data[start:end] for kind, start, end in each_attribute(data)}


def payloads(data: bytes, kind: int) -> list[bytes]:
    """The payloads of every attribute of this type, in order: a netlink list."""
    return [data[start:end] for found, start, end in each_attribute(data) if found == kind]


def message(head: tuple[int, int, int], family: int, body: bytes, resource: int = 0) -> bytes:
    """A whole message of type, flags and sequence `head`; bodies are already padded because attributes are."""
    return HEADER.pack(PREFIX + len(body), *head, 0) + GENERIC.pack(family, 0, resource) + body


def request(operation: int, flags: int, sequence: int, family: int, body: bytes) -> bytes:
    """A message to nf_tables."""
    return message((SUBSYSTEM << 8 | operation, flags | REQUEST, sequence), family, body)


def begin(sequence: int) -> bytes:
    return message((BATCH_BEGIN, REQUEST, sequence), 0, b"", SUBSYSTEM)


def end(sequence: int) -> bytes:
    return message((BATCH_END, REQUEST, sequence), 0, b"", SUBSYSTEM)


def frame(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """A whole message without a second header in front of `body`, as rtnetlink has them."""
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def frames(data: bytes) -> Iterator[Frame]:
    """The messages of one datagram, in order; what is cut short ends it."""
    start = 0
    while start + HEADER.size <= len(data):
        length, kind, flags, sequence, port = HEADER.unpack_from(data, start)
        if length < HEADER.size or start + length > len(data):
            return
        yield Frame(kind, flags, sequence, data[start + HEADER.size : start + length], port)
        start += (length + 3) & ~3


def messages(data: bytes) -> Iterator[Message]:
    """The nfnetlink messages of one datagram, in order."""
    return map(message_of, frames(data))


def message_of(frame: Frame) -> Message:
    """Takes nfnetlink's header off; acknowledgements and the end of a listing have none."""
    kind, flags, sequence, body, port = frame
    if kind in (ERROR, DONE) or len(body) < GENERIC.size:
        return Message(kind, flags, sequence, 0, body, port)
    return Message(kind, flags, sequence, body[0], body[GENERIC.size :], port)


def errno_of(received: Frame | Message) -> int:
    """What an acknowledgement or the end of a listing says: 0 is done."""
    return -int.from_bytes(received.body[:4], sys.byteorder, signed=True)


def reply(received: Frame | Message) -> Reply:
    """Reads an acknowledgement (`NLMSG_ERROR`), with the extended one's offset where there is one."""
    errno = errno_of(received)
    if not received.flags & ACK_TLVS:
        return Reply(received.sequence, errno)
    quoted = HEADER.unpack_from(received.body, 4)[0]
    start = 4 + (HEADER.size if received.flags & CAPPED else (quoted + 3) & ~3)
    offset = attributes(received.body[start:]).get(ERROR_OFFSET)
    return Reply(received.sequence, errno, -1 if offset is None else int.from_bytes(offset, sys.byteorder))
