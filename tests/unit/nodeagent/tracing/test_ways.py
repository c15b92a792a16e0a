"""Which traced packets are the flow's own, and which are answers to it."""

from __future__ import annotations

from nodeagent.linux.netlink import wire
from nodeagent.tracing import events
from nodeagent.tracing.flow import Flow, Step
from nodeagent.tracing.marking import TABLE
from nodeagent.tracing.trace import Heard

FLOW = Flow(bytes((10, 0, 0, 2)), bytes((172, 30, 0, 1)), 80, 6)
OURS = f"ip {TABLE}"
POLICY = 0


def told(packet: int, table: str, chain: str, handle: int) -> wire.Message:
    name = table.partition(" ")[2]
    where = wire.text(1, name) + wire.text(2, chain) + wire.number(6, packet)
    step = wire.number(4, 3) + wire.number64(3, handle) if handle else wire.number(4, 1) + wire.number(16, 1)
    verdict = wire.nest(5, wire.number(1, -1 & 0xFFFFFFFF))
    return wire.Message(events.TRACE, 0, 0, 2, where + step + verdict)


def test_a_packet_of_the_flow_also_passes_the_chains_for_answers_and_is_none() -> None:
    heard = Heard(FLOW)
    for message in (
        told(1, OURS, "prerouting", 4),
        told(1, OURS, "answers-prerouting", POLICY),
        told(1, "ip deltaplane", "services", 9),
        told(2, OURS, "answers-prerouting", 7),
        told(2, "inet edgefilter", "forwarded", 3),
    ):
        heard.take(message, 0.0)

    assert heard.ways() == [[Step(1, "ip deltaplane", "services", 9, "continue")]]
    assert heard.ways(of_answers=True) == [[Step(2, "ip edgefilter", "forwarded", 3, "continue")]]
