"""Which nodes a replica still speaks of after their streams have ended."""

from __future__ import annotations

import pytest

from controlplane import nodes as nodes_module
from controlplane.log import Log
from controlplane.nodes import KEEP_SECONDS, Nodes
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store


def left(nodes: Nodes, name: str, now: float) -> Session:
    store, log = Store(), Log()
    session = Session(store, log, Snapshots(store, log))
    session.node_name = name
    nodes.claim(session)
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
    store, log = Store(), Log()
    new = Session(store, log, Snapshots(store, log))
    new.node_name = "a"
    nodes.claim(new)
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
