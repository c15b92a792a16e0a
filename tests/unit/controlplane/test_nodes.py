"""Which nodes a replica still speaks of after their streams have ended."""

from __future__ import annotations

import pytest

from controlplane import nodes as nodes_module
from controlplane.log import Log
from controlplane.nodes import KEEP_SECONDS, Nodes
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from controlplane.stream_events import AskedAgain, BroughtUp, Introduced
from deltaplane.v1 import delta_pb2 as pb


def came(nodes: Nodes, name: str) -> Session:
    store, log = Store(), Log()
    session = Session(store, log, Snapshots(store, log))
    hello = pb.Hello(node_name=name, protocol_min=1, protocol_max=1)
    for happened in session.on_message(pb.WatchRequest(hello=hello), 0.0):
        nodes.note(session, happened)
    return session


def left(nodes: Nodes, name: str, now: float) -> Session:
    session = came(nodes, name)
    session.close("CANCELLED", "the agent went away")
    nodes.departed(session, now)
    return session


def test_a_node_that_left_is_shown_for_a_while_and_then_forgotten() -> None:
    nodes = Nodes()
    session = left(nodes, "a", 0.0)
    nodes.expire(KEEP_SECONDS - 1, lambda _: False)
    assert nodes.get("a") is session
    nodes.expire(KEEP_SECONDS, lambda _: False)
    assert nodes.get("a") is None
    assert len(nodes) == 0


def test_a_node_of_the_cluster_is_shown_as_long_as_its_object_exists() -> None:
    nodes = Nodes()
    session = left(nodes, "a", 0.0)
    for periods in range(1, 4):
        nodes.expire(periods * KEEP_SECONDS, lambda _: True)
        assert nodes.get("a") is session
    nodes.expire(4 * KEEP_SECONDS, lambda _: False)
    assert nodes.get("a") is None


def test_a_node_that_came_back_is_not_forgotten_when_its_old_stream_is_seen_to_end() -> None:
    nodes = Nodes()
    old = left(nodes, "a", 0.0)
    new = came(nodes, "a")
    nodes.departed(old, 1.0)
    nodes.expire(2 * KEEP_SECONDS, lambda _: False)
    assert nodes.get("a") is new


def test_names_that_come_and_go_are_bounded_whatever_objects_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes_module, "MAX_DEPARTED", 3)
    nodes = Nodes()
    for number in range(10):
        left(nodes, f"n{number}", float(number))
        nodes.expire(float(number), lambda _: True)
    assert [session.node_name for session in nodes] == ["n7", "n8", "n9"]


def test_a_newer_stream_of_a_node_ends_the_older_one_and_no_other_nodes_s15() -> None:
    nodes = Nodes()
    older, other = came(nodes, "a"), came(nodes, "b")
    newer = came(nodes, "a")

    assert older.closed is not None
    assert (older.closed.status, "node a" in older.closed.detail) == ("ABORTED", True)
    assert newer.closed is other.closed is None
    assert set(nodes) == {newer, other}


def test_an_older_stream_that_has_ended_keeps_its_own_reason() -> None:
    nodes = Nodes()
    older = left(nodes, "a", 0.0)
    came(nodes, "a")
    assert older.closed is not None
    assert older.closed.status == "CANCELLED"


def test_a_stream_that_is_claimed_again_is_not_superseded_by_itself() -> None:
    nodes = Nodes()
    session = came(nodes, "a")
    nodes.note(session, Introduced())
    assert session.closed is None


def test_resyncs_and_how_states_were_brought_up_are_counted() -> None:
    nodes = Nodes()
    session = came(nodes, "a")
    for happened in (
        AskedAgain("GAP"),
        AskedAgain("GAP"),
        BroughtUp("GAP", "whole", "the whole state", 100),
        BroughtUp("GAP", "whole", "the whole state", 20),
        BroughtUp("CONNECTED", "delta", "in the log"),
    ):
        nodes.note(session, happened)

    assert nodes.resyncs == {"GAP": 2}
    assert nodes.tally.number == {("GAP", "whole"): 2, ("CONNECTED", "delta"): 1}
    assert nodes.tally.size == {"whole": 120}


def test_the_nodes_may_change_while_they_are_gone_through() -> None:
    nodes = Nodes()
    for name in ("a", "b"):
        left(nodes, name, 0.0)
    seen = []
    for session in nodes:
        seen.append(session.node_name)
        nodes.expire(KEEP_SECONDS, lambda _: False)
    assert (seen, len(nodes)) == (["a", "b"], 0)


def test_who_is_no_node_of_the_cluster_leaves_no_trace_after_its_stream() -> None:
    nodes = Nodes()
    for number in range(100):
        session = came(nodes, f"n{number}")
        session.close("CANCELLED", "the agent went away")
        nodes.departed(session, 0.0, kept=False)
    assert (len(nodes), len(nodes._departed), len(nodes.rivals)) == (0, 0, 0)
