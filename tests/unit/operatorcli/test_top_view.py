"""A look at the cluster: rates between two samples, commits of the last seconds, the slowest nodes first."""

from __future__ import annotations

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.output import Form, written
from operatorcli.views.top import Sample, Top, share
from tests.unit.operatorcli.long import LABEL, SUBDOMAIN, node, widest

GOLDEN = """\
revision         147, 50.0 changes/s
agents           3 nodes: 2 live, 1 merging
lag              half 0.5s, slowest 12s
event to kernel  half 20 ms, 99 of 100 200 ms
commits          0.4/s over 10 s

NODE    STATE    BEHIND  REVISIONS  COMMITS/S  SLOWEST COMMIT  FAILED
node-c  merging     12s        -40        0.1          100 ms       0
node-b  live       0.5s         -1        0.0               -       0
and 1 more nodes, no slower
"""


def commit(name: str, event_to_commit: int, took: int) -> pb.TailCommitsResponse:
    made = pb.TailCommitsResponse(node_name=name, event_to_commit_ns=event_to_commit)
    made.commit.commit_ns = took
    return made


def looked(top: Top) -> None:
    nodes = [
        node("node-a", applied_rev=147),
        node("node-b", applied_rev=146, behind_seconds=0.5),
        node("node-c", applied_rev=107, behind_seconds=12.0, state=pb.NODE_STATE_MERGING),
    ]
    top.take(Sample(100.0, pb.ListNodesResponse(head_rev=47, nodes=nodes)))
    top.told(91.0, commit("node-b", 900_000_000, 1))  # too long ago
    for at, took in ((98.0, 10), (99.0, 12), (101.0, 20)):
        top.told(at, commit("node-a", took * 1_000_000, 1_000_000))
    top.told(101.5, commit("node-c", 200_000_000, 100_000_000))
    top.take(Sample(102.0, pb.ListNodesResponse(head_rev=147, nodes=nodes)))


def test_a_look_is() -> None:
    top = Top()
    looked(top)

    assert written(top.frame(2), Form.TABLE) == GOLDEN


def test_who_may_not_hear_of_commits_is_told_so() -> None:
    top = Top()
    looked(top)
    top.deaf = "you may not watch inspections"

    assert "Commits are not told: you may not watch inspections" in written(top.frame(), Form.TABLE)


def test_one_look_alone_has_no_rate_and_no_node_is_said() -> None:
    top = Top()
    top.take(Sample(1.0, pb.ListNodesResponse(head_rev=9)))

    text = written(top.frame(), Form.TABLE)

    assert "9, 0.0 changes/s" in text
    assert "no node's agent is known" in text


def test_the_longest_names_stay_within_a_hundred_columns() -> None:
    top = Top()
    nodes = [node(LABEL, behind_seconds=1e6), node(SUBDOMAIN, applied_rev=1)]
    top.take(Sample(1.0, pb.ListNodesResponse(head_rev=2**63, nodes=nodes)))

    assert widest(written(top.frame(), Form.TABLE)) <= 100


def test_shares_of_few_values() -> None:
    assert share([1.0], 0.99) == 1.0
    assert share([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0


def test_a_node_without_a_stream_has_no_lag_and_comes_first() -> None:
    """Nobody knows how far it is behind, so 0 would be said of the worst."""
    top = Top()
    nodes = [node("node-a", behind_seconds=0.5), node("node-b", state=pb.NODE_STATE_DISCONNECTED)]
    replicas = [pb.ReplicaStatus(server_id="r1"), pb.ReplicaStatus(address="192.0.2.12:50051", error="timed out")]
    top.take(Sample(1.0, pb.ListNodesResponse(head_rev=9, nodes=nodes, replicas=replicas)))

    text = written(top.frame(1), Form.TABLE)

    assert "half 0.5s, slowest 0.5s; 1 node disconnected, whose lag is not known" in text
    assert "node-b" in text
    assert "node-a" not in text
    assert "The replica 192.0.2.12:50051 does not answer, so its nodes may be missing: timed out." in text


def test_a_replica_that_is_missing_is_no_commit() -> None:
    top = Top()
    top.take(Sample(1.0, pb.ListNodesResponse(head_rev=9)))
    top.told(1.0, pb.TailCommitsResponse(missing=pb.ReplicaStatus(address="192.0.2.12:50051", error="timed out")))

    assert "0.0/s over 10 s" in written(top.frame(), Form.TABLE)


def test_revisions_are_counted_by_the_replica_that_the_node_follows() -> None:
    top = Top()
    nodes = [node("node-a", applied_rev=3, head_rev=3)]
    top.take(Sample(1.0, pb.ListNodesResponse(head_rev=900, nodes=nodes)))

    assert "-897" not in written(top.frame(), Form.TABLE)
