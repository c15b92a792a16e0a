"""Two agents that run under one node's name are told apart: one has the stream, the other waits, and somebody hears."""

from __future__ import annotations

from controlplane.log import Log
from controlplane.nodes import Nodes
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from controlplane.stream_events import Introduced
from deltaplane.v1 import delta_pb2 as pb


def hello(instance: str, uid: str = "") -> pb.Hello:
    return pb.Hello(node_name="n1", node_uid=uid, agent_instance=instance, protocol_min=1, protocol_max=1)


def comes(nodes: Nodes, instance: str, uid: str = "") -> Session | None:
    """The stream of this agent; None: it was refused."""
    said = hello(instance, uid)
    if nodes.rivals.refusal(nodes.open_hello("n1"), said) is not None:
        return None
    store, log = Store(), Log()
    session = Session(store, log, Snapshots(store, log))
    session.on_message(pb.WatchRequest(hello=said), 0.0)
    nodes.note(session, Introduced())
    return session


def test_two_agents_that_come_again_and_again_change_the_stream_once() -> None:
    nodes = Nodes()
    first = comes(nodes, "a")
    second = comes(nodes, "b")
    assert second is not None
    tries = [comes(nodes, "a") for _ in range(100)]
    assert tries == [None] * 100
    assert first is not None
    assert first.closed is not None
    assert second.closed is None


def test_whoever_waits_is_taken_when_the_others_stream_has_ended() -> None:
    nodes = Nodes()
    comes(nodes, "a")
    second = comes(nodes, "b")
    assert second is not None
    second.close("CANCELLED", "gone")
    nodes.departed(second, 1.0)
    assert len(nodes.rivals) == 0
    assert comes(nodes, "a") is not None


def test_an_agent_that_connects_anew_is_no_rival_of_itself() -> None:
    nodes = Nodes()
    assert all(comes(nodes, "a") is not None for _ in range(5))
    assert len(nodes.rivals) == 0


def test_an_agent_that_was_replaced_and_whose_name_stays_for_long_leaves_little_behind() -> None:
    nodes = Nodes()
    assert all(comes(nodes, f"i{number}") is not None for number in range(100))
    assert len(nodes.rivals._beaten["n1"]) == 8


def test_agents_differ_by_their_nodes_uid_as_well() -> None:
    nodes = Nodes()
    assert comes(nodes, "a", "u1") is not None
    assert comes(nodes, "a", "u2") is not None
    assert comes(nodes, "a", "u1") is None


def test_the_operator_hears_of_it_once() -> None:
    nodes = Nodes()
    for instance in ("a", "b", "a", "a"):
        comes(nodes, instance)
    holder = nodes.open_hello("n1")
    assert holder is not None
    notice, again = (nodes.rivals.alarm(holder, hello("a")) for _ in range(2))
    assert notice is not None
    assert again is None
    assert (notice.node, notice.reason) == ("n1", "TwoAgents")
    assert "instance 'b' has the stream, instance 'a' is refused" in notice.text
