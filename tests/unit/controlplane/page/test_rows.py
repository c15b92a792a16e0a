"""Answers of inspection in the words of the page."""

from __future__ import annotations

import pytest

from controlplane.page.rows import LAG_BOUNDS, Row, key_text, lag_bands, moved, node_row, overview, state_name
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

LIVE, OFF = pb.NODE_STATE_LIVE, pb.NODE_STATE_DISCONNECTED
KEY = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name="<b>web</b>")


@pytest.mark.parametrize(
    "fields, why, note",
    [
        ({}, "", ""),
        ({"state": OFF, "disconnected_reason": "the stream broke"}, "the stream broke", ""),
        ({"state": OFF}, "no stream", ""),
        ({"behind_seconds": 4.0, "applied_rev": 3, "head_rev": 9}, "has revision 3 of 9", ""),
        ({"brake": delta_pb2.Brake(services_removed=7)}, "the safety brake holds a change that removes 7 Services", ""),
        (
            {"failed": [delta_pb2.ObjectFailure(key=KEY, text="taken")], "more_failed": 2},
            "Service shop/<b>web</b>: taken and 2 more",
            "",
        ),
        ({"more_failed": 2}, "2 objects fail", ""),
        (
            {"proxy_mode": "iptables", "proxy_mode_asked": "ipvs", "proxy_mode_reason": "no ip_vs"},
            "",
            "ipvs does not work here: no ip_vs",
        ),
        ({"proxy_mode": "iptables", "proxy_mode_asked": "auto"}, "", ""),
    ],
)
def test_a_row_says_what_is_wrong_with_its_node(fields: dict[str, object], why: str, note: str) -> None:
    row = node_row(pb.NodeStatus(**{"node_name": "a", "state": LIVE, **fields}))  # type: ignore[arg-type]

    assert (row["why"], row["note"]) == (why, note)


def test_states_and_kinds_of_a_later_version_have_their_numbers() -> None:
    assert state_name(LIVE) == "Live"
    assert state_name(77) == "77"  # type: ignore[arg-type]
    assert key_text(objects_pb2.ObjectKey(kind=77, name="x")) == "kind 77 x"  # type: ignore[arg-type]


def test_bands_of_lag_have_every_node_once() -> None:
    lags = (0.0, 0.5, 0.6, 9.0, 1000.0)
    nodes = [pb.NodeStatus(state=LIVE, behind_seconds=lag) for lag in lags] + [pb.NodeStatus(state=OFF)]
    bands = lag_bands(nodes)

    assert bands == [2, 1, 0, 0, 1, 0, 0, 0, 1, 1]
    assert len(bands) == len(LAG_BOUNDS) + 2


def test_only_rows_that_changed_are_sent_again_and_those_that_went_are_named() -> None:
    before: dict[str, Row] = {"a": {"name": "a", "behind": 0}, "b": {"name": "b", "behind": 0}, "c": {"name": "c"}}
    now: dict[str, Row] = {"a": {"name": "a", "behind": 0}, "b": {"name": "b", "behind": 1}, "d": {"name": "d"}}

    assert moved(before, now) == ([now["b"], now["d"]], ["c"])


def test_the_overview_counts_states_nodes_without_an_agent_and_replicas_that_are_silent() -> None:
    replicas = [pb.ReplicaStatus(server_id="s1", connected_nodes=2), pb.ReplicaStatus(address="h:1", error="away")]
    nodes = [pb.NodeStatus(state=LIVE), pb.NodeStatus(state=LIVE), pb.NodeStatus(state=OFF)]
    found = overview(pb.ListNodesResponse(nodes=nodes, without_agent=["x"], replicas=replicas, head_rev=9))

    assert found["states"] == {"Live": 2, "Disconnected": 1, "Without agent": 1}
    assert [each["error"] for each in found["replicas"]] == ["", "away"]
