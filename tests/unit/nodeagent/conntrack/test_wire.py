"""Messages of connection tracking: what is asked, what is understood, and that nothing is ever flushed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaplane.forwarding import Target
from nodeagent.conntrack import wire as conntrack
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.query import Query
from nodeagent.linux.netlink import wire
from tests.unit.nodeagent.conntrack.cases import packed

NESTED = 0x8000
ENDS = {
    4: (packed("10.0.0.9"), packed("172.30.0.1"), packed("10.180.0.5")),
    6: (packed("fd00::9"), packed("fd00:10:96::1"), packed("fd00:10:180::5")),
}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


def number16(kind: int, value: int) -> bytes:
    return wire.attribute(kind, value.to_bytes(2, "big"))


def end(family: int, source: bytes, destination: bytes, ports: tuple[int, int], protocol: int = 17) -> bytes:
    """A tuple as the kernel writes it."""
    kinds = (1, 2) if family == 4 else (3, 4)
    ip = wire.attribute(kinds[0], source) + wire.attribute(kinds[1], destination)
    numbers = number16(2, ports[0]) + number16(3, ports[1])
    return wire.attribute(1 | NESTED, ip) + wire.attribute(2 | NESTED, wire.number8(1, protocol) + numbers)


def body(
    family: int, *, protocol: int = 17, zone: int | None = None, swapped: bool = False, status: int | None = 8
) -> bytes:
    client, virtual, endpoint = ENDS[family]
    tuples = [
        wire.attribute(1 | NESTED, end(family, client, virtual, (40000, 53), protocol)),
        wire.attribute(2 | NESTED, end(family, endpoint, client, (5353, 40000), protocol)),
    ]
    rest = b"" if zone is None else number16(18, zone)
    rest += b"" if status is None else wire.number(3, status)
    rest += wire.number(7, 30) + wire.number(12, 0xABCDEF01)
    return rest + b"".join(reversed(tuples)) if swapped else b"".join(tuples) + rest


@FAMILIES
@pytest.mark.parametrize("swapped", [False, True], ids=["usual", "unusual"])
def test_a_flow_is_read_in_whatever_order_its_attributes_come(family: int, swapped: bool) -> None:
    client, virtual, endpoint = ENDS[family]
    data = body(family, swapped=swapped)
    flow = conntrack.flow(data)
    assert flow is not None
    found = (flow.place, flow.source, flow.name, flow.client)
    assert found == (Place(virtual, 53), Target(endpoint, 5353), data, client)
    assert conntrack._unusual(data) == flow


@FAMILIES
def test_other_protocols_and_zones_are_nobodys_business(family: int) -> None:
    assert conntrack.flow(body(family, protocol=6)) is None
    assert conntrack.flow(body(family, protocol=132)) is None
    assert conntrack.flow(body(family, zone=7)) is None
    assert conntrack.flow(body(family, zone=0)) is not None


@FAMILIES
@pytest.mark.parametrize("protocol", [6, 132])
@pytest.mark.parametrize(
    ("status", "waiting"),
    [(8, True), (8 | 1 << 8, True), (8 | 1 << 4, True), (8 | 1 << 1, False), (8 | 1 << 5, False), (None, False)],
    ids=["new", "NAT found nothing", "source translated", "answered", "destination translated", "not said"],
)
def test_a_connection_waits_while_nobody_answered_or_translated_it(
    family: int, protocol: int, status: int | None, waiting: bool
) -> None:
    _, virtual, endpoint = ENDS[family]
    data = body(family, protocol=protocol, status=status)
    flow = conntrack.flow(data, protocol)
    assert flow is not None
    assert (flow.place, flow.source, flow.waiting) == (Place(virtual, 53, protocol), Target(endpoint, 5353), waiting)
    assert conntrack.flow(data) is None
    assert conntrack.flow(body(family), protocol) is None


def test_of_connections_only_those_that_wait_are_asked_for() -> None:
    place = Place(packed("172.30.0.1"), 53, 6)
    (message,) = wire.messages(conntrack.dump(Query(4, place, protocol=6), 1))
    parts = wire.attributes(message.body)
    assert (parts[3], parts[26]) == (bytes(4), bytes((0, 0, 0, 1 << 1 | 1 << 5)))
    assert wire.number8(1, 6) in parts[1]
    assert 26 not in wire.attributes(next(iter(wire.messages(conntrack.dump(Query(4), 1)))).body)


@given(st.one_of(st.binary(max_size=200), st.integers(0, 120).map(lambda n: body(4)[:n])))
def test_nonsense_never_raises_nor_makes_a_delete_without_a_tuple(data: bytes) -> None:
    names_a_tuple(data)


@given(st.sampled_from([4, 6]), st.lists(st.tuples(st.integers(0, 200), st.integers(0, 255)), max_size=6))
def test_a_damaged_entry_never_raises(family: int, damage: list[tuple[int, int]]) -> None:
    data = bytearray(body(family, protocol=6 if len(damage) % 2 else 17))
    for at, value in damage:
        data[at % len(data)] = value
    names_a_tuple(bytes(data))


def names_a_tuple(data: bytes) -> None:
    for flow in filter(None, (conntrack.flow(data, protocol) for protocol in (6, 17))):
        (message,) = wire.messages(conntrack.delete(flow, 1, answer=False))
        assert wire.attributes(message.body)[1]


@FAMILIES
def test_a_delete_names_the_tuple_and_the_entry(family: int) -> None:
    """Without a tuple the kernel would delete everything."""
    flow = conntrack.flow(body(family))
    assert flow is not None
    (message,) = wire.messages(conntrack.delete(flow, 9, answer=True))
    parts = wire.attributes(message.body)
    assert (message.type, message.sequence, message.family) == (0x102, 9, 2 if family == 4 else 10)
    assert message.flags == wire.REQUEST | wire.ACK
    client, virtual, _ = ENDS[family]
    assert parts == {1: end(family, client, virtual, (40000, 53)), 12: bytes.fromhex("abcdef01")}
    with pytest.raises(KeyError):
        conntrack.delete(flow._replace(name=b""), 9, answer=True)


def test_a_question_names_what_the_kernel_is_to_compare() -> None:
    place, source = Place(packed("172.30.0.1"), 53), Target(packed("10.180.0.5"), 5353)

    def asked(query: Query) -> dict[int, bytes]:
        (message,) = wire.messages(conntrack.dump(query, 1))
        assert (message.type, message.flags) == (0x101, wire.REQUEST | wire.DUMP)
        return wire.attributes(message.body)

    def flags(parts: dict[int, bytes]) -> dict[int, int]:
        return {kind: int.from_bytes(value, "little") for kind, value in wire.attributes(parts[25]).items()}

    assert flags(asked(Query(4))) == {1: 8}
    assert flags(asked(Query(4, place))) == {1: 2 + 8 + 32}
    parts = asked(Query(4, place, source))
    assert flags(parts) == {1: 2 + 8 + 32, 2: 1 + 8 + 16}
    six = asked(Query(6, Place(packed("fd00::1"), 53), Target(packed("fd00::5"), 5353)))
    assert flags(six) == {1: 8 + 32, 2: 8 + 16}  # the kernel compares addresses of IPv6 the wrong way round
    assert bytes(packed("172.30.0.1")) in parts[1]
    assert bytes(packed("10.180.0.5")) in parts[2]
    assert wire.HEADER.size + 4 == len(conntrack.dump(Query(6), 1, filtered=False))
