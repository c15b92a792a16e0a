"""The table of nodes, and the sentences about what is wrong."""

from __future__ import annotations

from deltaplane.v1 import delta_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.output import Form, written
from operatorcli.views import nodes
from tests.unit.operatorcli.long import LABEL, NOW, SUBDOMAIN, failing, node, service, widest

GOLDEN = """\
NODE    STATE         MODE      APPLIED  BEHIND  FAILED  BRAKE  VERSION
node-a  live          nftables       47       -       0  -      1.2.0
node-b  stalled       iptables       12   3m20s       2  held   1.2.0
node-c  disconnected  nftables       40      1h       0  -      1.2.0
node-b: connected, but makes no progress; see the agent's log and load (kubectl -n deltaplane-system
logs POD).
node-b: svc/shop/web fails with KERNEL_REJECTED: no room in the set; tried again in 23s.
node-b: 1 more object failing: deltaplane get node node-b
node-b: `deltaplane resync node-b` has the agent compare everything with the kernel; if it is
refused again, see the kernel's log (dmesg) and modules, and report it with `deltaplane dump`
(runbook: DeltaplaneServicesFail).
node-b: its safety brake holds a change that removes 35 of 40 Services; if that is right: deltaplane
release-brake node-b
node-b: runs iptables instead of nftables: no nf_tables.
node-c: its agent is not connected for 2m: nobody knows why.
node-c: see whether its agent runs (kubectl -n deltaplane-system logs POD), and that firewalls and
routes let port 50051 through in both directions: what it sends, and what comes back. `deltaplane
status --server=unix:///PATH` on node-c says what it tries and its last error (PATH: the agent's
--inspect-socket; runbook: DeltaplaneAgentDisconnected).
"""


def three() -> pb.ListNodesResponse:
    failure = failing(key=service("web", "shop"))
    failure.retry_unix_nano = int((NOW + 23) * 1e9)
    b = node(
        "node-b", state=pb.NODE_STATE_STALLED, proxy_mode="iptables", proxy_mode_asked="nftables",
        proxy_mode_reason="no nf_tables", applied_rev=12, behind_seconds=200.0, more_failed=1,
        failed=[failure], brake=delta_pb2.Brake(services_removed=35, services=40),
    )  # fmt: skip
    c = node(
        "node-c", state=pb.NODE_STATE_DISCONNECTED, applied_rev=40, behind_seconds=3600.0,
        disconnected_reason="nobody knows why", disconnected_unix_nano=int((NOW - 120) * 1e9),
    )  # fmt: skip
    return pb.ListNodesResponse(head_rev=47, nodes=[node("node-a", applied_rev=47), b, c])


def test_the_table_and_what_is_wrong() -> None:
    assert written(nodes.answer(three(), NOW), Form.TABLE) == GOLDEN


def test_the_longest_names_are_whole_and_within_a_hundred_columns() -> None:
    answer = pb.ListNodesResponse(head_rev=2**63, nodes=[
        node(LABEL, applied_rev=2**63, behind_seconds=86_399.0, failed=[failing()], proxy_mode="userspace",
             agent_version="1.2.0-rc.1+build.12345"),
        node(SUBDOMAIN, state=pb.NODE_STATE_DISCONNECTED, applied_rev=2**63, behind_seconds=1e6),
    ])  # fmt: skip

    text = written(nodes.answer(answer, NOW), Form.TABLE)

    assert widest(text) <= 100
    column = "".join(line[:60].split(" ")[0] for line in text.splitlines()[1:])
    assert LABEL in column
    assert SUBDOMAIN in column
    assert "…" not in text


def test_wide_cuts_nothing_into_lines() -> None:
    text = written(
        nodes.answer(pb.ListNodesResponse(nodes=[node(SUBDOMAIN, peer="ipv4:192.0.2.1:40000")]), NOW), Form.WIDE
    )

    assert len(text.splitlines()) == 2
    assert SUBDOMAIN in text
    assert "PEER" in text


def test_no_node_at_all_is_said() -> None:
    assert written(nodes.answer(pb.ListNodesResponse(), NOW), Form.TABLE) == nodes.NONE + "\n"


def test_the_slowest_nodes_come_first_and_are_few() -> None:
    many = [node(f"n{number}", behind_seconds=float(number)) for number in range(6)]

    assert nodes.slowest(many) == "n5 (5.0s), n4 (4.0s), n3 (3.0s) and 2 more"


def test_an_agent_that_says_that_its_commit_takes_long_is_told_from_one_whose_kernel_takes_nothing() -> None:
    since = int((NOW - 30) * 1e9)
    refused = pb.PendingCommit(rev=48, text="the lock is held", since_unix_nano=since)
    answer = pb.ListNodesResponse(head_rev=48, nodes=[
        node("node-a", applied_rev=47, behind_seconds=31.0, pending=pb.PendingCommit(rev=48, since_unix_nano=since)),
        node("node-b", applied_rev=47, behind_seconds=31.0, pending=refused),
    ])  # fmt: skip
    lines = list(nodes.troubles(answer, NOW))

    assert lines[0] == "node-a: its commit of revision 48 has been running for 30s; see the node's load."
    assert lines[1] == "node-b: its kernel has taken no commit for 30s: the lock is held."
    assert "dmesg" in lines[2]
    shown = written(nodes.answer(answer, NOW), Form.TABLE)
    assert "PENDING" in shown
    assert "48: the lock is held" in shown


def test_a_commit_that_runs_for_a_few_seconds_is_shown_and_is_no_problem() -> None:
    running = node("node-a", behind_seconds=3.0, pending=pb.PendingCommit(rev=48, since_unix_nano=int(NOW * 1e9)))
    answer = pb.ListNodesResponse(nodes=[running])

    assert list(nodes.troubles(answer, NOW)) == []
    assert "48: the commit runs" in written(nodes.answer(answer, NOW), Form.TABLE)


def test_what_the_replica_that_answers_does_not_follow_is_one_sentence_with_since_when_and_why() -> None:
    lost = [
        pb.SourceStatus(resource=name, since_unix_nano=int((NOW - ago) * 1e9), error="it did not answer within 10 s")
        for name, ago in (("services", 40.0), ("nodes", 41.0))
    ]
    listed = pb.ListNodesResponse(replicas=[pb.ReplicaStatus(server_id="r1", unfollowed=lost)])

    text = " ".join(written(nodes.answer(listed, NOW), Form.TABLE).split())
    assert text.count("services and nodes have not been followed for 41s, so changes do not arrive") == 1
    assert "nodes keep what they have: it did not answer within 10 s. Mend what this names" in text
    assert "not been followed" not in written(nodes.answer(three(), NOW), Form.TABLE)


def test_a_node_whose_replica_may_be_silent_is_not_said_to_be_disconnected_and_gets_no_advice() -> None:
    lost = node(
        "node-a", state=pb.NODE_STATE_DISCONNECTED, disconnected_reason="the stream ended without a goodbye",
        disconnected_unix_nano=int((NOW - 90) * 1e9), silent_replicas=["192.0.2.12:50051"],
    )  # fmt: skip

    text = " ".join(written(nodes.answer(pb.ListNodesResponse(nodes=[lost]), NOW), Form.TABLE).split())

    assert (
        "node-a: 192.0.2.12:50051 may have its stream and does not answer; at the replicas that answer it is not"
        " connected for 1m30s: the stream ended without a goodbye." in text
    )
    assert "firewalls" not in text


def test_how_far_a_node_without_a_stream_is_behind_is_not_known() -> None:
    found = [node("node-a", state=pb.NODE_STATE_DISCONNECTED), node("node-b", behind_seconds=12.0)]
    assert nodes.slowest(found) == "node-b (12s), and of 1 disconnected node it is not known"
    assert nodes.slowest(found[:1]) == "of 1 disconnected node it is not known"
    assert nodes.slowest([]) == "none"
