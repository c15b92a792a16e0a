"""A replica at a glance, and whether the answer is yes."""

from __future__ import annotations

import pytest

from deltaplane.v1 import delta_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Form, written
from operatorcli.views import status
from tests.unit.operatorcli.long import LABEL, node, widest

NOW = 1_800_000_000.0
GOLDEN = """\
replica   04491945 at 192.0.2.10:50051
revision  47, as this replica counts (epoch 0a812e89)
objects   40 Services, 80 EndpointSlices, 3 Nodes, 1 ServiceCIDR
agents    3 nodes: 2 live, 1 stalled
behind    node-b (3m20s)

RESOURCE        FOLLOWED  SINCE  VERSION  ERROR
services        yes        1h1m  1234
endpointslices  no          12s  1200     403, permission is missing

endpointslices have not been followed for 12s, so changes do not arrive, and nodes keep what they
have: 403, permission is missing. Mend what this names (the API server, the way to it, a right, a
folder); the replica tries again by itself.
node-b: connected, but makes no progress; see the agent's log and load (kubectl -n deltaplane-system
logs POD).
"""
REPLICAS = """\
REPLICA  ADDRESS               REVISION  DIGEST  AGENTS  ERROR
r1       the one that answers        47  aa           2  -
r2       192.0.2.11:50051            12  aa           1  -
-        192.0.2.12:50051             0  -            0  connection refused
"""


def replica(**fields: object) -> pb.GetStatusResponse:
    counts = delta_pb2.Counts(services=40, endpoint_slices=80, nodes=3, service_cidrs=1)
    sources = [source("services", 3660.0, "1234")]
    given = {"head_rev": 47, "counts": counts, "sources": sources} | fields
    return pb.GetStatusResponse(server_id="04491945", epoch="0a812e8996e6c3b4", **given)  # type: ignore[arg-type]


def source(resource: str, ago: float, version: str, error: str = "") -> pb.SourceStatus:
    since = int((NOW - ago) * 1e9)
    return pb.SourceStatus(
        resource=resource, following=not error, since_unix_nano=since, resource_version=version, error=error
    )


def live(*names: str, applied: int = 47) -> list[pb.NodeStatus]:
    return [node(name, applied_rev=applied) for name in names]


def test_a_replica_that_lacks_something_is_a_no_that_says_what() -> None:
    sources = [source("services", 3660.0, "1234"), source("endpointslices", 12.0, "1200", "403, permission is missing")]
    slow = node("node-b", state=pb.NODE_STATE_STALLED, behind_seconds=200.0)
    listed = pb.ListNodesResponse(head_rev=47, nodes=[*live("node-a", "node-c"), slow])

    answer, code = status.answer(replica(sources=sources), listed, "192.0.2.10:50051", NOW)

    assert code is Exit.NO
    assert written(answer, Form.TABLE) == GOLDEN


def test_several_replicas_are_a_line_each_and_one_that_does_not_answer_is_a_no() -> None:
    replicas = [
        pb.ReplicaStatus(server_id="r1", head_rev=47, digest="aa", connected_nodes=2),
        pb.ReplicaStatus(address="192.0.2.11:50051", server_id="r2", head_rev=12, digest="aa", connected_nodes=1),
        pb.ReplicaStatus(address="192.0.2.12:50051", error="connection refused"),
    ]
    listed = pb.ListNodesResponse(head_rev=47, nodes=live("node-a"), replicas=replicas, without_agent=["node-z"])

    answer, code = status.answer(replica(replicas=replicas), listed, "here", NOW)

    text = written(answer, Form.TABLE)
    assert code is Exit.NO
    assert REPLICAS in text
    assert "The replica 192.0.2.12:50051 does not answer, so its nodes may be missing: connection refused." in text
    said = "node-z: 192.0.2.12:50051 may have its stream and does not answer; no replica that answered knows an agent."
    assert said in " ".join(text.split())


def test_revisions_are_compared_with_those_of_the_nodes_own_replica() -> None:
    other = node("node-b", applied_rev=12, head_rev=12)
    listed = pb.ListNodesResponse(head_rev=47, nodes=[*live("node-a"), other])

    answer, code = status.answer(replica(), listed, "here", NOW)

    assert code is Exit.YES
    assert "Every node has the newest revision" in written(answer, Form.TABLE)


def test_all_nodes_with_the_head_are_a_yes() -> None:
    answer, code = status.answer(replica(), pb.ListNodesResponse(head_rev=47, nodes=live("node-a")), "unix:///s", NOW)

    assert code is Exit.YES
    assert written(answer, Form.TABLE).endswith("Every node has the newest revision in its kernel.\n")


def test_a_node_that_is_about_to_acknowledge_is_neither_wrong_nor_everywhere() -> None:
    listed = pb.ListNodesResponse(head_rev=47, nodes=live("node-a", applied=46))

    answer, code = status.answer(replica(), listed, "unix:///s", NOW)

    assert code is Exit.YES
    assert "Every node" not in written(answer, Form.TABLE)


def test_long_errors_fold_within_a_hundred_columns() -> None:
    sources = [source(f"/{LABEL}/{LABEL}/manifests", 1.0, "9" * 20, "cannot list: " + "reason " * 100)]

    answer, _ = status.answer(replica(sources=sources), pb.ListNodesResponse(nodes=live(LABEL)), f"{LABEL}:50051", NOW)

    assert widest(written(answer, Form.TABLE)) <= 100


def test_objects_that_cannot_be_used_are_a_no_that_names_the_first_ones() -> None:
    unusable = [pb.UnusableObject(where=f"bad-{number}.yaml", reason="not YAML") for number in range(12)]
    listed = pb.ListNodesResponse(head_rev=47, nodes=live("node-a"))

    answer, code = status.answer(replica(unusable=unusable, more_unusable=3), listed, "192.0.2.10:50051", NOW)

    assert code is Exit.NO
    text = written(answer, Form.TABLE)
    assert "bad-0.yaml cannot be used: not YAML\n" in text
    assert "bad-10.yaml" not in text
    assert "5 more objects cannot be used" in text
    assert widest(text) <= 100


def test_a_replica_that_does_not_follow_is_a_no_though_its_nodes_have_all_it_knows() -> None:
    lost = source("endpointslices", 90.0, "1200", "403, permission is missing")
    replicas = [
        pb.ReplicaStatus(server_id="r1", head_rev=47, digest="aa", connected_nodes=1),
        pb.ReplicaStatus(
            address="192.0.2.11:50051", server_id="r2", head_rev=12, digest="bb", connected_nodes=2, unfollowed=[lost]
        ),
    ]
    listed = pb.ListNodesResponse(head_rev=47, nodes=live("node-a"), replicas=replicas)

    answer, code = status.answer(replica(replicas=replicas), listed, "192.0.2.10:50051", NOW)

    assert code is Exit.NO
    text = written(answer, Form.TABLE)
    assert "192.0.2.11:50051 does not follow endpointslices, so its 2 nodes may lack" in text
    assert "Every node has the newest revision" not in text


@pytest.mark.parametrize(("address", "who"), [("192.0.2.11:50051", "192.0.2.11:50051"), ("", "that answers")])
def test_a_replica_that_takes_no_agents_is_named_once_with_the_reason(address: str, who: str) -> None:
    lost = source("endpointslices", 90.0, "1200", "403, permission is missing")
    why = "it does not follow endpointslices (403, permission is missing); other replicas do"
    listed = pb.ListNodesResponse(
        head_rev=47, replicas=[pb.ReplicaStatus(address=address, unfollowed=[lost], no_agents=why)]
    )

    answer, code = status.answer(replica(), listed, "192.0.2.10:50051", NOW)

    assert code is Exit.NO
    assert answer.data["problems"] == [f"The replica {who} takes no agents: {why}; see its log."]


def test_a_replica_that_stays_at_another_state_is_a_no_and_one_that_moves_is_none() -> None:
    mine = pb.ReplicaStatus(server_id="r1", epoch="e1", head_rev=47, digest="aa")
    stuck = pb.ReplicaStatus(address="192.0.2.11:50051", server_id="r2", epoch="e2", head_rev=12, digest="bb")
    moving = pb.ReplicaStatus(server_id="r3", epoch="e3", head_rev=30, digest="cc")
    before, after = [mine, stuck, moving], [mine, stuck, pb.ReplicaStatus(server_id="r3", epoch="e3", head_rev=31)]
    assert status.apart(before, after) == [stuck]
    assert status.apart(before, [pb.ReplicaStatus(digest="bb"), stuck]) == []  # it was ahead
    assert not status.differing([mine, pb.ReplicaStatus(error="refused")])

    listed = pb.ListNodesResponse(head_rev=47, nodes=live("node-a"), replicas=[mine, stuck])
    answer, code = status.answer(replica(replicas=before), listed, "192.0.2.10:50051", NOW, [stuck])

    assert code is Exit.NO
    assert "192.0.2.11:50051 keeps another state" in written(answer, Form.TABLE)
