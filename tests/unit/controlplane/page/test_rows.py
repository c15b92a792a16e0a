"""Answers of inspection in the words of the page."""

from __future__ import annotations

import pytest

from controlplane.page.rows import (
    LAG_BOUNDS,
    Row,
    explanation,
    has_instead,
    key_text,
    lag_bands,
    moved,
    node_row,
    overview,
    state_name,
    what_to_do,
)
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

LIVE, OFF = pb.NODE_STATE_LIVE, pb.NODE_STATE_DISCONNECTED
KEY = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="shop", name="<b>web</b>")


@pytest.mark.parametrize(
    "fields, why, note",
    [
        ({}, "", ""),
        ({"state": OFF, "disconnected_reason": "it broke"}, "its agent is not connected: it broke.", ""),
        ({"state": OFF}, "its agent is not connected.", ""),
        ({"behind_seconds": 4.0, "applied_rev": 3, "head_rev": 9}, "has revision 3 of 9", ""),
        (
            {"brake": delta_pb2.Brake(services_removed=7, services=9)},
            (
                "its safety brake holds a change that removes 7 of 9 Services; if that is right: "
                "deltaplane release-brake a"
            ),
            "",
        ),
        (
            {"failed": [delta_pb2.ObjectFailure(key=KEY, text="Service shop/<b>web</b>: taken")], "more_failed": 2},
            "svc/shop/<b>web</b> fails with UNSPECIFIED: taken. 2 more objects failing: deltaplane get node a",
            "",
        ),
        ({"more_failed": 1}, "1 more object failing: deltaplane get node a", ""),
        ({"pending": pb.PendingCommit(rev=9, text="locked")}, "its kernel has taken no commit: locked.", ""),
        ({"pending": pb.PendingCommit(rev=9)}, "its commit of revision 9 takes long", ""),
        (
            {"proxy_mode": "iptables", "proxy_mode_asked": "ipvs", "proxy_mode_reason": "no ip_vs"},
            "",
            "runs iptables instead of ipvs: no ip_vs.",
        ),
        ({"proxy_mode": "iptables", "proxy_mode_asked": "auto"}, "", ""),
    ],
)
def test_a_row_says_what_is_wrong_with_its_node(fields: dict[str, object], why: str, note: str) -> None:
    row = node_row(pb.NodeStatus(**{"node_name": "a", "state": LIVE, **fields}))  # type: ignore[arg-type]

    assert (row["why"], row["note"]) == (why, note)


def test_a_row_is_the_same_at_every_look_while_nothing_happens() -> None:
    """What passes with time is a moment, of which the browser makes a duration."""
    off = pb.NodeStatus(node_name="a", state=OFF, disconnected_unix_nano=10**18)
    assert node_row(off)["since"] == 10**12
    assert node_row(off) == node_row(off)
    held = pb.NodeStatus(node_name="a", state=LIVE, pending=pb.PendingCommit(rev=2, since_unix_nano=2 * 10**18))
    assert (node_row(held)["since"], node_row(held)["pending"]) == (2 * 10**12, True)


def test_an_advice_is_given_once_for_all_nodes_that_need_it() -> None:
    nodes = [pb.NodeStatus(node_name=f"n{number}", state=OFF) for number in range(7)]
    failed = [delta_pb2.ObjectFailure(key=KEY, code=delta_pb2.ERROR_CODE_KERNEL_REJECTED)]
    first, second = what_to_do([*nodes, pb.NodeStatus(node_name="ill", state=LIVE, failed=failed)])

    assert (first["nodes"], first["more"]) == (["n0", "n1", "n2", "n3", "n4"], 2)
    assert "port 50051" in first["text"]
    assert (second["nodes"], second["more"]) == (["ill"], 0)
    assert "on NODE says" in first["text"]
    assert "`deltaplane resync ill`" in second["text"]  # one node alone is named


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

    assert found["states"] == {"Live": 2, "Disconnected": 1, "Without agent": 1, "Failing": 0}
    assert [each["error"] for each in found["replicas"]] == ["", "away"]


def test_what_a_silent_replica_may_know_better_is_not_certain() -> None:
    basis = pb.Basis(rev=3, applied_rev=3, acknowledged=True, silent_replicas=["r:1"])
    unknown = "r:1 may have its stream and does not answer"

    shown = explanation(pb.ExplainResponse(basis=basis))

    assert (shown["sure"], shown["silent"]) == (False, f"It is not known what the node has: {unknown}.")
    assert has_instead(pb.ResolveForNodeResponse(basis=basis)) == f"not known: {unknown}"
    assert node_row(pb.NodeStatus(node_name="a", state=OFF, silent_replicas=["r:1"]))["why"].startswith(unknown)
