"""A Node that lacks the label by which the agents' DaemonSet chooses nodes: each answer about it says so."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from controlplane.agent_nodes import AgentNodes
from controlplane.facts import Fact
from controlplane.inspection.lacking import lacking
from controlplane.source.decode import Decoder, form_of
from deltaplane.model import Kind, Node
from deltaplane.v1 import inspection_pb2 as pb
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Asked, ack

LABEL = "deltaplane.dev/proxy=deltaplane"
HAS = {"deltaplane.dev/proxy": "deltaplane"}
WORDS = f"the Node lacks the label {LABEL}, by which the agents' DaemonSet chooses its nodes"


def node(name: str, labels: dict[str, str] | None = None, **fields: Any) -> Fact:
    return Fact(Node(name).key, Node(name, **fields), "5", labels=labels)


@pytest.fixture
def asked() -> Asked:
    found = Asked(AgentNodes(HAS))
    found.cluster.update([node("a", HAS)])
    return found


def gone(asked: Asked, name: str) -> None:
    """Its agent was there, and ended."""
    session = asked.node(name)
    ack(session, received_rev=asked.cluster.log.head, applied_rev=asked.cluster.log.head)
    session.close("CANCELLED", "the agent left")
    asked.nodes.departed(session, 0.0)


async def status(asked: Asked, name: str) -> pb.NodeStatus:
    return (await asked.inspection.GetNode(pb.GetNodeRequest(node_name=name), asked.context)).status


def why(asked: Asked, name: str) -> str:
    return lacking(asked.here, name, asked.cluster.log.head, None, "").text


async def test_a_node_that_was_handed_back_says_which_label_it_lacks_until_it_has_it_again(asked: Asked) -> None:
    gone(asked, "a")
    assert not (await status(asked, "a")).missing_labels
    assert "label" not in why(asked, "a")

    asked.cluster.update([node("a")])  # `kubectl label node a deltaplane.dev/proxy-`
    assert list((await status(asked, "a")).missing_labels) == [LABEL]
    assert list((await asked.listed()).nodes[0].missing_labels) == [LABEL]
    assert why(asked, "a").endswith(f"the agent left; {WORDS}; --except=a leaves it out")

    asked.cluster.update([node("a", {**HAS, "zone": "x"})])
    assert not (await status(asked, "a")).missing_labels


async def test_a_label_alone_is_no_change_for_agents(asked: Asked) -> None:
    head = asked.cluster.log.head
    asked.cluster.update([node("a")])
    assert asked.cluster.log.head == head


async def test_a_node_that_never_had_an_agent_is_told_from_one_that_should_have_one(asked: Asked) -> None:
    asked.cluster.update([node("b", {"deltaplane.dev/proxy": "other"})])
    listed = await asked.listed()
    found = await asked.inspection.GetNode(pb.GetNodeRequest(node_name="b"), asked.context)

    assert list(listed.without_agent) == ["a", "b"]
    assert list(listed.without_labels) == [pb.NodeWithoutLabels(node_name="b", missing_labels=[LABEL])]
    assert (found.HasField("status"), list(found.missing_labels)) == (False, [LABEL])
    assert WORDS in why(asked, "b")
    assert "label" not in why(asked, "a")


async def test_a_complete_list_and_a_deletion_leave_nothing_of_nodes_that_are_gone(asked: Asked) -> None:
    asked.cluster.update([node("b"), node("c")])
    asked.cluster.replace(Kind.NODE, [node("a", HAS), node("c")], "9")
    missing = asked.cluster.agent_nodes.missing
    assert (missing("a"), missing("b"), missing("c")) == ((), (), (LABEL,))

    asked.cluster.update([Fact(Node("c").key, None, "10", deleted=True)])
    assert missing("c") == ()


async def test_a_node_that_leaves_the_cluster_says_that_first(asked: Asked) -> None:
    asked.cluster.update([node("a", deleting=True)])
    gone(asked, "a")
    assert why(asked, "a").endswith("; the Node is being deleted")


async def test_without_the_flag_nothing_is_noted() -> None:
    asked = Asked()
    asked.cluster.update([node("b"), Fact(objects.service_key(2), objects.service(2))])
    assert asked.cluster.agent_nodes.missing("b") == ()
    assert not (await asked.listed()).without_labels


@pytest.mark.parametrize("labels", [HAS, None])
def test_the_labels_come_with_the_nodes_that_the_api_server_tells_of(labels: dict[str, str] | None) -> None:
    thing = {"metadata": {"name": "a", "resourceVersion": "7"} | ({"labels": labels} if labels else {})}
    line = msgspec.json.encode({"type": "MODIFIED", "object": thing})
    item = Decoder(form_of(Kind.NODE)).event(line, 1).item
    assert item is not None
    assert item.fact is not None
    assert item.fact.labels == labels
