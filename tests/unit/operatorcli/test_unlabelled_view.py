"""What is said of a node that no agent is to run on, by the labels that its Node lacks."""

from __future__ import annotations

from controlplane.page.rows import node_row, what_to_do
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import views_pb2
from operatorcli.output import Form, written
from operatorcli.views import node, nodes
from tests.unit.operatorcli.long import NOW
from tests.unit.operatorcli.long import node as node_status

LABEL = "deltaplane.dev/proxy=deltaplane"
OFF = node_status(
    "node-c", state=pb.NODE_STATE_DISCONNECTED, disconnected_reason="the agent left", missing_labels=[LABEL],
    disconnected_unix_nano=int((NOW - 120) * 1e9),
)  # fmt: skip
WHY = (
    f"node-c: its agent is not connected for 2m: the agent left; the Node lacks the label {LABEL}, by which the"
    " agents' DaemonSet chooses its nodes."
)
STEP = (
    "node-c: that is right where another proxy, such as kube-proxy, serves node-c: `wait --except=node-c` leaves it"
    f" out of an answer; where an agent is to serve it: kubectl label node node-c {LABEL}"
)


def test_a_node_that_was_handed_back_is_no_matter_of_firewalls() -> None:
    assert list(nodes.troubles(pb.ListNodesResponse(nodes=[OFF]), NOW)) == [WHY, STEP]

    shown = " ".join(written(node.answer(pb.GetNodeResponse(status=OFF), "node-c", NOW), Form.TABLE).split())
    assert WHY in shown
    assert "firewall" not in shown


def test_a_label_that_is_taken_while_the_agent_still_runs_is_no_trouble() -> None:
    on = node_status("node-c", missing_labels=[LABEL])
    assert list(nodes.troubles(pb.ListNodesResponse(nodes=[on]), NOW)) == []


def test_nodes_that_never_had_an_agent_are_told_from_those_that_should_have_one() -> None:
    lacking = [pb.NodeWithoutLabels(node_name=name, missing_labels=[LABEL]) for name in ("b", "c")]
    answer = pb.ListNodesResponse(without_agent=["a", "b", "c"], without_labels=lacking)
    first, second, third = nodes.troubles(answer, NOW)

    assert first.startswith("a: no agent has connected; see that one runs there")
    assert second.startswith(f"b and c: no agent has connected; the Node lacks the label {LABEL}")
    assert third.startswith("b and c: that is right where another proxy")
    assert third.endswith(f"kubectl label node NODE {LABEL}")


def test_such_a_node_by_itself() -> None:
    found = pb.GetNodeResponse(object=views_pb2.ObjectView(), missing_labels=[LABEL, "a=b"])
    shown = " ".join(written(node.answer(found, "node-c", NOW), Form.TABLE).split())

    assert f"knows an agent of this node; the Node lacks the labels {LABEL} and a=b, by which" in shown
    assert f"kubectl label node node-c {LABEL} a=b" in shown
    assert "see that one runs there" not in shown


def test_the_page_says_the_same() -> None:
    assert node_row(OFF)["why"] == (
        f"its agent is not connected: the agent left; the Node lacks the label {LABEL}, by which the agents' DaemonSet"
        " chooses its nodes."
    )
    assert [each["text"] for each in what_to_do([OFF])] == [STEP.removeprefix("node-c: ")]
