"""The kernel's address messages, as bytes. What a real kernel says is in tests/kernel."""

from __future__ import annotations

import errno
import struct

import pytest

from nodeagent.linux.netlink.rtnetlink import Holding
from nodeagent.node.addresses import wire
from nodeagent.node.addresses.wire import Notice

FOUR, PEER, SIX = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes.fromhex("20010db8" + "00" * 11 + "01")
LOCAL, ADDRESS, LABEL = 2, 1, 3


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def told(
    kind: int, *attributes: tuple[int, bytes], family: int = 2, length: int = 24, flags: int = 0, on: int = 3
) -> bytes:
    packed = b"".join(struct.pack("=HH", 4 + len(value), number) + value for number, value in attributes)
    return message(kind, struct.pack("=BBBBI", family, length, flags, 0, on) + packed)


def addresses(data: bytes) -> list[tuple[bytes, bool]]:
    return [(each.holding.address, each.gone) for each in wire.notices(data) if each.holding is not None]


def test_the_request_is_a_dump_of_all_families() -> None:
    assert wire.listing(7) == struct.pack("=IHHII", 24, 22, 0x301, 7, 0) + bytes(8)


def test_the_local_address_counts_and_not_its_peers() -> None:
    data = told(20, (ADDRESS, PEER), (LOCAL, FOUR), (LABEL, b"eth0")) + told(20, (ADDRESS, SIX), family=10, length=64)
    assert addresses(data) == [(FOUR, False), (SIX, False)]


def test_an_address_that_goes_is_the_one_that_came_whatever_its_flags() -> None:
    (came,) = wire.notices(told(20, (ADDRESS, SIX), family=10, flags=0x40))
    (went,) = wire.notices(told(21, (ADDRESS, SIX), family=10))
    assert went == Notice(came.holding, gone=True)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(told(20, (LOCAL, FOUR), length=32), id="length"),
        pytest.param(told(20, (LOCAL, FOUR), on=4), id="interface"),
        pytest.param(told(20, (LOCAL, FOUR), (ADDRESS, PEER)), id="peer"),
    ],
)
def test_one_address_may_be_held_more_than_once(other: bytes) -> None:
    holdings = [each.holding for each in wire.notices(told(20, (LOCAL, FOUR)) + other)]
    assert [holding.address for holding in holdings if isinstance(holding, Holding)] == [FOUR, FOUR]
    assert holdings[0] != holdings[1]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(message(16, bytes(16)), id="a link"),
        pytest.param(told(20, (ADDRESS, b"\1\2"), family=28), id="another family"),
        pytest.param(told(20), id="no address"),
        pytest.param(message(20, b"\2"), id="too short"),
    ],
)
def test_anything_else_says_nothing(data: bytes) -> None:
    assert list(wire.notices(data)) == [Notice()]


def test_a_message_that_is_cut_off_is_not_read() -> None:
    assert list(wire.notices(told(20, (LOCAL, FOUR))[:-1])) == []
    assert list(wire.notices(b"\0" * 16)) == []


def test_the_end_of_a_listing() -> None:
    done = message(3, struct.pack("=i", 0))
    refused = message(2, struct.pack("=i", -errno.EPERM) + bytes(16))
    interrupted = message(3, struct.pack("=i", 0), flags=0x10)
    assert [each.errno for each in wire.notices(done + refused)] == [0, errno.EPERM]
    assert [each.interrupted for each in wire.notices(done + interrupted)] == [False, True]
