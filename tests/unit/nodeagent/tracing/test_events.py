"""What the kernel tells of traced packets and of new connections."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import pytest

from nodeagent.conntrack import wire as conntrack
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.tracing import events
from nodeagent.tracing.flow import Destination, Flow, Step, Translated
from nodeagent.tracing.marking import TABLE, marked
from tests.fakes.nftables.memory import MemoryKernel


def packed(text: str) -> bytes:
    return ip_address(text).packed


FLOW = Flow(packed("10.0.0.2"), packed("172.30.0.1"), 80, 6)


def told(kind: int, *more: bytes, family: int = 2, of: int = events.TRACE) -> wire.Message:
    body = wire.text(1, "deltaplane") + wire.text(2, "services") + wire.number(4, kind) + wire.number(6, 7)
    return wire.Message(of, 0, 0, family, body + b"".join(more))


def verdict(code: int, chain: str = "") -> bytes:
    return wire.nest(5, wire.number(1, code), wire.text(2, chain) if chain else b"")


@pytest.mark.parametrize(
    ("message", "step"),
    [
        (told(3, wire.number64(3, 12), verdict(-4, "cluster-2")), (12, "goto cluster-2")),
        (told(3, wire.number64(3, 12), verdict(0)), (12, "drop")),
        (told(3, wire.number64(3, 12), verdict(-1)), (12, "continue")),
        (told(1, wire.number(16, 1)), (0, "accept")),
    ],
)
def test_a_rule_and_a_policy_are_steps(message: wire.Message, step: tuple[int, str]) -> None:
    assert events.step(message) == Step(7, "ip deltaplane", "services", *step)


@pytest.mark.parametrize(
    "message",
    [told(3, verdict(-1)), told(2, verdict(-5)), told(3, wire.number64(3, 12), of=wire.SUBSYSTEM << 8 | 6)],
)
def test_the_end_of_a_chain_and_other_messages_are_none(message: wire.Message) -> None:
    assert events.step(message) is None


def headers(to: str, port: int) -> bytes:
    """Of a packet, as the kernel has them in a message."""
    four = len(packed(to)) == 4
    network = (b"\x45" + bytes(15) if four else b"\x60" + bytes(23)) + packed(to)
    return wire.attribute(8, network) + wire.attribute(9, bytes(2) + port.to_bytes(2, "big") + bytes(16))


@pytest.mark.parametrize("to", ["10.180.1.11", "fd00:10:180:1::11"])
def test_a_message_with_the_packets_headers_says_where_it_is_going(to: str) -> None:
    found = events.destination(told(1, wire.number(16, 1), headers(to, 8080)))
    assert found == Destination(7, packed(to), 8080)


@pytest.mark.parametrize(
    "message",
    [
        told(1, wire.number(16, 1)),
        told(1, headers("10.180.1.11", 80), of=wire.SUBSYSTEM << 8 | 6),
        told(1, wire.attribute(8, b"\x45" + bytes(10)), wire.attribute(9, bytes(20))),
        told(1, wire.attribute(8, b"\x45" + bytes(19)), wire.attribute(9, bytes(3))),
        told(1, wire.attribute(8, b"\x05" + bytes(19)), wire.attribute(9, bytes(20))),
    ],
)
def test_without_whole_headers_it_does_not(message: wire.Message) -> None:
    assert events.destination(message) is None


def entry(client: str, to: str, port: int, answers: str, seen: str) -> wire.Message:
    def ends(kind: int, source: str, source_port: int, target: str, target_port: int) -> bytes:
        addresses = wire.attribute(1, packed(source)), wire.attribute(2, packed(target))
        ports = wire.attribute(2, source_port.to_bytes(2, "big")), wire.attribute(3, target_port.to_bytes(2, "big"))
        return wire.nest(kind, wire.nest(1, *addresses), wire.nest(2, wire.number8(1, 6), *ports))

    body = ends(1, client, 40000, to, port) + ends(2, answers, 8080, seen, 40000)
    return wire.Message(conntrack.NEW, 0, 0, 2, body)


def test_a_new_connection_of_the_flow_says_who_answers_and_whom_that_one_sees() -> None:
    found = events.translated(entry("10.0.0.2", "172.30.0.1", 80, "10.180.0.1", "192.168.0.1"), FLOW)
    assert found == Translated(packed("10.180.0.1"), 8080, packed("192.168.0.1"))


@pytest.mark.parametrize(("client", "to", "port"), [("10.0.0.3", "172.30.0.1", 80), ("10.0.0.2", "172.30.0.1", 81)])
def test_another_connection_is_none(client: str, to: str, port: int) -> None:
    assert events.translated(entry(client, to, port, "10.180.0.1", "10.0.0.2"), FLOW) is None


class Old(MemoryKernel):
    """A kernel that knows no owners of tables."""

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        for message in wire.messages(batch):
            given = wire.attributes(message.body)
            if message.type & 0xFF == objects.NEW_TABLE and any(given.get(2, b"")) and len(given[2]) == 4:
                return [wire.Reply(message.sequence, 95)]
        return super().commit(batch, first, last)


@pytest.mark.parametrize("kind", [MemoryKernel, Old])
def test_the_flow_is_marked_meanwhile_and_what_a_killed_trace_left_is_replaced(
    kind: type[MemoryKernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = kind()
    monkeypatch.setattr("nodeagent.tracing.marking.NetlinkKernel", lambda: kernel)
    with marked(FLOW):
        hooks = {name: chain.hook for name, chain in tables(kernel)[TABLE].chains.items()}
        left = dict(kernel.tables)
    assert hooks == {
        "prerouting": ("filter", 0, -310), "output": ("filter", 3, -310),
        "answers-prerouting": ("filter", 0, -199), "answers-output": ("filter", 3, -199),
    }  # fmt: skip
    assert (TABLE in tables(kernel)) is (kind is MemoryKernel)  # where tables have owners, the kernel removes it
    kernel.tables = left
    with marked(FLOW._replace(port=81)):
        assert all(len(chain.rules) == 1 for chain in tables(kernel)[TABLE].chains.values())


def tables(kernel: MemoryKernel) -> dict[str, Any]:
    return {name: table for (_, name), table in kernel.tables.items()}
