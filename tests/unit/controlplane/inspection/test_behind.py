"""Answers about a node that is behind: what it has acknowledged, and what has changed since."""

from __future__ import annotations

from math import inf

import pytest

from controlplane.facts import Fact
from deltaplane.model import Node
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1 import views_pb2
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Asked, ack

NODES = [Node(name, addresses=(bytes((192, 168, 0, place)),)) for place, name in enumerate("ab", 1)]
PIECE = objects.slice_of(1, {1: 3})


@pytest.fixture
def asked() -> Asked:
    """Node a has what was before the last change, node b all: the Service has another endpoint by it."""
    found = Asked()
    found.cluster.update([Fact(node.key, node) for node in NODES])
    for name in "ab":
        acknowledge(found, name)
    later = objects.slice_of(1, {3: 3})
    found.cluster.update([Fact(later.key, later)])
    acknowledge(found, "b", known=True)
    return found


def acknowledge(asked: Asked, name: str, *, known: bool = False) -> None:
    session = asked.nodes.get(name) if known else asked.node(name)
    assert session is not None
    while session.next_message(0.0) is not None:
        pass
    ack(session, received_rev=asked.cluster.log.head, applied_rev=asked.cluster.log.head)


async def differences(asked: Asked, name: str = "") -> inspection.DiffResponse:
    request = inspection.DiffRequest(node_name="a", other_node_name="b", namespace="ns" if name else "", name=name)
    return await asked.inspection.Diff(request, asked.context)


async def explained(asked: Asked) -> inspection.ExplainResponse:
    connection = views_pb2.Connection(source="10.0.0.9", address="10.96.0.1", port=80)
    return await asked.inspection.Explain(
        inspection.ExplainRequest(node_name="a", connection=connection), asked.context
    )


async def test_two_nodes_differ_in_what_each_has_acknowledged(asked: Asked) -> None:
    answer = await differences(asked, "svc-1")

    assert [(each.node, each.other) for each in answer.services] == [("10.0.0.1:8080", "10.0.0.3:8080")]
    assert (answer.node.acknowledged, answer.node.rev, [key.name for key in answer.node.changed]) == (
        True, answer.other.rev - 1, ["svc-1-abc"],
    )  # fmt: skip


async def test_earlier_forms_are_known_after_the_ring_has_let_go_of_the_changes(asked: Asked) -> None:
    asked.cluster.log.expire(inf)
    later = objects.slice_of(1, {5: 3})
    asked.cluster.update([Fact(later.key, later)])

    answer = await differences(asked, "svc-1")

    assert [(each.node, each.other) for each in answer.services] == [("10.0.0.1:8080", "10.0.0.3:8080")]
    assert (answer.node.acknowledged, answer.other.acknowledged) == (True, True)


async def test_where_the_form_of_then_is_not_kept_the_service_is_named_as_the_difference(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    acknowledge(asked, "b", known=True)
    asked.forget()

    answer = await differences(asked)

    assert [(each.service.name, each.node, each.other) for each in answer.services] == [
        ("svc-1", "an earlier form, which is no longer kept", "10.0.0.3:8080"),
        ("svc-2", "an earlier form, which is no longer kept", "REJECT"),
    ]
    assert (answer.node.acknowledged, answer.other.acknowledged) == (False, True)


async def test_of_one_service_only_its_own_changes_count(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])

    one, all_of_them = await differences(asked, "svc-1"), await differences(asked)

    assert [key.name for key in one.other.changed] == []
    assert [key.name for key in all_of_them.other.changed] == ["svc-2"]


async def test_a_service_that_one_node_still_has_is_a_difference(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(1), None, deleted=True), Fact(PIECE.key, None)])
    acknowledge(asked, "b", known=True)

    assert [(each.node, each.other) for each in (await differences(asked)).services] == [("10.0.0.1:8080", "nothing")]


async def test_an_explanation_names_what_of_it_has_changed_since(asked: Asked) -> None:
    answer = await explained(asked)

    assert [choice.endpoint for choice in answer.explanation.choices] == ["10.0.0.1:8080"]
    assert [key.name for key in answer.basis.changed] == ["svc-1-abc"]


async def test_what_changed_and_changed_back_is_no_difference(asked: Asked) -> None:
    asked.cluster.update([Fact(PIECE.key, PIECE)])

    answer = await explained(asked)

    assert (answer.basis.head_rev > answer.basis.applied_rev, list(answer.basis.changed)) == (True, [])


async def test_a_service_that_came_since_is_named_though_the_node_has_none_at_the_address(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    connection = views_pb2.Connection(source="10.0.0.9", address="10.96.0.2", port=80)
    request = inspection.ExplainRequest(node_name="a", connection=connection)

    answer = await asked.inspection.Explain(request, asked.context)

    assert answer.explanation.fate == views_pb2.FATE_NOT_SERVED
    assert [key.name for key in answer.basis.changed] == ["svc-2"]


async def test_an_explanation_by_a_form_that_is_not_kept_is_of_the_newest(asked: Asked) -> None:
    asked.forget()

    answer = await explained(asked)

    assert [choice.endpoint for choice in answer.explanation.choices] == ["10.0.0.3:8080"]
    assert (answer.basis.acknowledged, answer.basis.rev) == (False, answer.basis.head_rev)
