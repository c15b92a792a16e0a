"""Whether all nodes have it, and which do not and why."""

from __future__ import annotations

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Form, written
from operatorcli.views import wait
from tests.unit.operatorcli.long import LABEL, NOW, SUBDOMAIN, widest

GOLDEN = """\
svc/shop/web is applied: not on 2 of 3 nodes after 10s.
NODE    REASON        WHAT IS KNOWN
node-b  behind        no Ack for 8 s
node-c  disconnected  its stream ended 40 s ago
The replica 192.0.2.12:50051 does not answer, and what it knows is missing: connection refused.
"""


def lacking() -> pb.WaitAppliedResponse:
    return pb.WaitAppliedResponse(
        done=True, chosen_nodes=3, nodes_applied=1, waited_seconds=10.0, rev=47,
        lacking=[
            pb.Lacking(node_name="node-b", reason=pb.LACK_REASON_BEHIND, text="no Ack for 8 s"),
            pb.Lacking(node_name="node-c", reason=pb.LACK_REASON_DISCONNECTED, text="its stream ended 40 s ago"),
        ],
        replicas=[pb.ReplicaStatus(server_id="r1"),
                  pb.ReplicaStatus(address="192.0.2.12:50051", error="connection refused")],
    )  # fmt: skip


def test_a_no_names_nodes_and_reasons() -> None:
    answer, code = wait.answer("svc/shop/web is applied", lacking(), NOW)

    assert code is Exit.NO
    assert written(answer, Form.TABLE) == GOLDEN
    assert written(answer, Form.NAME) == "node/node-b\nnode/node-c\n"


def test_a_yes_is_a_sentence() -> None:
    last = pb.WaitAppliedResponse(done=True, applied=True, chosen_nodes=3, nodes_applied=3, waited_seconds=0.21, rev=47)

    answer, code = wait.answer("svc/shop/web is applied", last, NOW)

    assert code is Exit.YES
    assert written(answer, Form.TABLE) == "svc/shop/web is applied: on all 3 nodes after 0.2s (revision 47).\n"


def test_a_yes_names_the_nodes_that_nobody_hears_any_more() -> None:
    last = pb.WaitAppliedResponse(done=True, applied=True, chosen_nodes=3, nodes_applied=3, waited_seconds=0.21, rev=47)
    last.without_stream.append("node-c")

    answer, code = wait.answer("it", last, NOW)

    text = " ".join(written(answer, Form.TABLE).split())
    assert code is Exit.YES
    assert "node-c acknowledged it and has no stream now" in text
    assert "--except=node-c leaves it out" in text

    last.without_stream.extend(f"node-{number}" for number in range(9))
    text = " ".join(written(wait.answer("it", last, NOW)[0], Form.TABLE).split())
    assert "node-c, node-0, node-1, node-2, node-3 and 5 more acknowledged it and have no stream now" in text


def test_a_quorum_says_that_it_is_one() -> None:
    last = pb.WaitAppliedResponse(done=True, applied=True, chosen_nodes=10, nodes_applied=9, waited_seconds=2.0, rev=47)

    assert "on 9 of 10 nodes, which are enough" in written(wait.answer("it", last, NOW)[0], Form.TABLE)


def test_thousands_of_nodes_with_long_names_stay_readable() -> None:
    last = lacking()
    last.more_lacking = 4000
    last.lacking.add(node_name=SUBDOMAIN, reason=pb.LACK_REASON_REPLICA_BEHIND, text=LABEL * 3)

    text = written(wait.answer(f"svc/{LABEL}/{LABEL}@{'9' * 20} is applied", last, NOW)[0], Form.TABLE)

    assert widest(text) <= 100
    assert "and 4000 more nodes" in text
