"""One node, one object, what a node makes of a Service, why a connection goes where it goes, and the whole state."""

from __future__ import annotations

import time
from typing import Any

import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from deltaplane.model import Conditions, Node, ObjectKey
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1 import objects_pb2, views_pb2
from deltaplane.views import key_message
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Aborted, Asked, ack

READY = int(Conditions.READY | Conditions.SERVING)
SERVICE = objects.service_key(1)
NODE = Node("a", addresses=(bytes((192, 168, 0, 1)),), zone="zone-1", pod_cidrs=("10.0.0.0/24",))


@pytest.fixture
def asked() -> Asked:
    found = Asked()
    found.cluster.update([Fact(NODE.key, NODE, "5")])
    return found


def applied(asked: Asked, name: str) -> Any:
    session = asked.node(name)
    ack(session, received_rev=asked.cluster.log.head, applied_rev=asked.cluster.log.head)
    return session


async def get(asked: Asked, key: ObjectKey) -> inspection.GetObjectResponse:
    return await asked.inspection.GetObject(inspection.GetObjectRequest(key=key_message(key)), asked.context)


async def resolved(asked: Asked, node: str = "a", name: str = "svc-1") -> inspection.ResolveForNodeResponse:
    request = inspection.ResolveForNodeRequest(node_name=node, namespace="ns", name=name)
    return await asked.inspection.ResolveForNode(request, asked.context)


async def explained(asked: Asked, address: str, port: int = 80, source: str = "10.0.0.9") -> inspection.ExplainResponse:
    connection = views_pb2.Connection(source=source, address=address, port=port)
    request = inspection.ExplainRequest(node_name="a", connection=connection)
    return await asked.inspection.Explain(request, asked.context)


# ---------------------------------------------------------------- nodes and objects


async def test_a_node_is_shown_with_its_hello_its_object_and_all_that_fails(asked: Asked) -> None:
    session = asked.node("a")
    keys = [objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="ns", name=f"s{n}") for n in range(9)]
    ack(session, received_rev=1, applied_rev=1, failed=[pb.ObjectFailure(key=key) for key in keys])

    answer = await asked.inspection.GetNode(inspection.GetNodeRequest(node_name="a"), asked.context)

    assert len(answer.status.failed) == 9
    assert (answer.hello.proxy_mode_asked, answer.hello.HasField("resume")) == ("ipvs", False)
    assert answer.object.node == views_pb2.NodeView(addresses=["192.168.0.1"], zone="zone-1", pod_cidrs=["10.0.0.0/24"])
    assert (answer.status.server_id, answer.status.epoch) == ("s1", asked.cluster.log.epoch.hex())


async def test_a_node_says_that_its_commit_takes_long_until_its_next_ack(asked: Asked) -> None:
    session = applied(asked, "a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    while session.next_message(0.0) is not None:
        pass
    head = asked.cluster.log.head
    session.on_message(pb.WatchRequest(pending=pb.Pending(received_rev=head, text="the lock is held")), 0.0)
    request = inspection.GetNodeRequest(node_name="a")

    found = (await asked.inspection.GetNode(request, asked.context)).status.pending
    listed = (await asked.listed()).nodes[0].pending
    assert (found.rev, found.text, listed) == (head, "the lock is held", found)
    ack(session, received_rev=head, applied_rev=head)
    assert not (await asked.inspection.GetNode(request, asked.context)).status.HasField("pending")


async def test_a_node_without_an_agent_has_its_object_alone_and_is_listed_apart(asked: Asked) -> None:
    answer = await asked.inspection.GetNode(inspection.GetNodeRequest(node_name="a"), asked.context)
    assert (answer.HasField("status"), answer.HasField("object")) == (False, True)
    assert list((await asked.listed()).without_agent) == ["a"]


async def test_an_object_is_shown_with_its_hash_version_and_the_revision_of_its_last_change(asked: Asked) -> None:
    asked.cluster.update([Fact(SERVICE, objects.service(1, 1), "70")])
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2), "75")])
    asked.cluster.update([Fact(SERVICE, objects.service(1, 1), "80")])  # equal

    answer = await get(asked, SERVICE)

    shown = answer.object
    assert (shown.changed_rev, shown.resource_version) == (asked.cluster.log.head - 1, "80")
    assert shown.hash == f"{asked.cluster.store.hash_of(SERVICE):016x}"
    assert list(shown.service.cluster_ips) == ["10.96.1.1"]
    assert [str(e.address) for piece in answer.endpoint_slices for e in piece.endpoint_slice.endpoints] == ["10.0.0.1"]
    assert answer.endpoint_slices[0].changed_rev == 0  # as in the first state


async def test_an_object_that_went_is_an_error_that_says_since_when(asked: Asked) -> None:
    asked.cluster.update([Fact(SERVICE, None, "90", deleted=True)])
    with pytest.raises(Aborted, match=f"Service ns/svc-1 is gone since revision {asked.cluster.log.head}"):
        await get(asked, SERVICE)


async def test_objects_come_in_pages_of_one_kind(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(n), objects.service(n)) for n in range(2, 6)])
    names: list[str] = []
    request = inspection.ListObjectsRequest(kind=objects_pb2.KIND_SERVICE, namespace="ns", limit=2)
    while True:
        page = await asked.inspection.ListObjects(request, asked.context)
        names += [each.key.name for each in page.objects]
        if not page.more:
            break
        request.after_namespace, request.after_name = page.objects[-1].key.namespace, page.objects[-1].key.name
    assert names == [f"svc-{n}" for n in range(1, 6)]


# ---------------------------------------------------------------- what a node makes of them


async def test_a_service_is_resolved_for_a_node_as_its_agent_does(asked: Asked) -> None:
    applied(asked, "a")
    answer = await resolved(asked)
    (frontend,) = answer.forwarding.frontends
    assert (frontend.frontend, list(frontend.endpoints), frontend.verdict) == (
        "10.96.0.1:80/TCP",
        ["10.0.0.1:8080"],
        "FORWARD",
    )
    assert (answer.basis.acknowledged, answer.basis.rev) == (True, asked.cluster.log.head)


async def test_it_is_of_the_state_that_the_node_has_acknowledged(asked: Asked) -> None:
    changed = objects.slice_of(1, {1: READY, 2: READY})
    asked.cluster.update([Fact(changed.key, changed)])
    applied(asked, "a")
    rev = asked.cluster.log.head
    newer = objects.slice_of(1, {3: READY})
    asked.cluster.update([Fact(newer.key, newer)])

    answer = await resolved(asked)

    assert list(answer.forwarding.frontends[0].endpoints) == ["10.0.0.1:8080", "10.0.0.2:8080"]
    assert (answer.basis.rev, answer.basis.acknowledged) == (rev, True)


async def test_the_first_form_of_what_has_changed_since_is_known_by_the_change(asked: Asked) -> None:
    applied(asked, "a")
    newer = objects.slice_of(1, {3: READY})
    asked.cluster.update([Fact(newer.key, newer)])  # its first form came with the first state

    answer = await resolved(asked)

    assert list(answer.forwarding.frontends[0].endpoints) == ["10.0.0.1:8080"]
    assert (answer.basis.acknowledged, answer.basis.applied_rev, answer.basis.head_rev) == (True, 2, 3)
    assert [key.name for key in answer.basis.changed] == ["svc-1-abc"]


async def test_a_service_that_went_is_still_what_a_node_that_is_behind_has(asked: Asked) -> None:
    applied(asked, "a")
    piece = objects.slice_of(1, {})
    asked.cluster.update([Fact(SERVICE, None, deleted=True), Fact(piece.key, None)])

    answer = await resolved(asked)

    assert list(answer.forwarding.frontends[0].endpoints) == ["10.0.0.1:8080"]
    assert {key.kind for key in answer.basis.changed} == {objects_pb2.KIND_SERVICE, objects_pb2.KIND_ENDPOINT_SLICE}


async def test_what_has_not_changed_since_is_not_named_at_a_node_that_is_behind(asked: Asked) -> None:
    applied(asked, "a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])

    answer = await resolved(asked)

    assert (answer.basis.acknowledged, list(answer.basis.changed)) == (True, [])


async def test_an_earlier_form_that_is_no_longer_kept_is_said_to_be_unknown(asked: Asked) -> None:
    applied(asked, "a")
    newer = objects.slice_of(1, {3: READY})
    asked.cluster.update([Fact(newer.key, newer)])
    asked.forget()

    answer = await resolved(asked)

    assert list(answer.forwarding.frontends[0].endpoints) == ["10.0.0.3:8080"]
    assert not answer.basis.acknowledged
    assert "EndpointSlice ns/svc-1-abc has changed since revision 2, and its form of then" in answer.basis.text
    assert (answer.basis.rev, answer.basis.applied_rev) == (3, 2)


async def test_with_the_log_gone_what_has_not_changed_is_still_known(asked: Asked) -> None:
    applied(asked, "a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    asked.forget()

    assert (await resolved(asked)).basis.acknowledged


async def test_a_node_that_has_acknowledged_nothing_is_said_to_have_not(asked: Asked) -> None:
    answer = await resolved(asked)
    assert (answer.basis.acknowledged, answer.basis.applied_rev) == (False, 0)
    assert "no agent of the node has acknowledged" in answer.basis.text


async def test_a_connection_is_explained_by_what_the_node_has(asked: Asked) -> None:
    applied(asked, "a")
    answer = await explained(asked, "10.96.0.1")

    assert answer.explanation.fate == views_pb2.FATE_REACHES
    assert answer.explanation.service == key_message(SERVICE)
    (choice,) = answer.explanation.choices
    assert (choice.endpoint, choice.probability, choice.masqueraded, choice.conditions) == (
        "10.0.0.1:8080", 1.0, False, "ready, serving",
    )  # fmt: skip
    steps = [each.what for each in answer.explanation.decisions]
    assert steps == ["frontend", "client", "traffic-policy", "endpoints", "masquerade"]
    assert answer.explanation.assumptions[-1].startswith("no rule of another program on a drops or redirects it")


async def test_a_node_without_pod_cidrs_takes_every_pod_for_its_own(asked: Asked) -> None:
    """As its agent does, and as kube-proxy."""
    connection = views_pb2.Connection(source="10.0.7.9", address="10.96.0.1", port=80)
    request = inspection.ExplainRequest(node_name="a", connection=connection, cluster_cidrs=["10.0.0.0/16"])
    for pod_cidrs, expected in ((NODE.pod_cidrs, "a pod of another node"), ((), "a pod of this node")):
        asked.cluster.update([Fact(NODE.key, replace(NODE, pod_cidrs=pod_cidrs), "6")])
        answer = await asked.inspection.Explain(request, asked.context)
        assert [each.found for each in answer.explanation.decisions if each.what == "client"] == [expected]


async def test_a_service_that_the_node_does_not_have_yet_is_not_explained_as_its(asked: Asked) -> None:
    asked.cluster.update([Fact(SERVICE, objects.service(1, 1))])
    applied(asked, "a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    asked.cluster.update([Fact(SERVICE, None, "9", deleted=True)])

    assert (await explained(asked, "10.96.0.2")).explanation.fate == views_pb2.FATE_NOT_SERVED
    assert (await explained(asked, "10.96.1.1")).explanation.fate == views_pb2.FATE_REACHES


async def test_a_wrong_port_or_address_names_the_services_near(asked: Asked) -> None:
    applied(asked, "a")
    wrong_port = (await explained(asked, "10.96.0.1", 81)).explanation
    assert [each.frontend for each in wrong_port.near] == ["10.96.0.1:80/TCP"]
    slip = (await explained(asked, "10.96.0.7")).explanation
    assert [each.service.name for each in slip.near] == ["svc-1"]


async def test_an_explanation_is_by_the_proxy_mode_of_the_nodes_agent(asked: Asked) -> None:
    session = applied(asked, "a")  # in iptables mode, which knows the addresses and ports of Services only (F5)
    assert (await explained(asked, "10.96.0.1", 81)).explanation.fate == views_pb2.FATE_NOT_SERVED
    session.hello.proxy_mode = "nftables"
    assert (await explained(asked, "10.96.0.1", 81)).explanation.fate == views_pb2.FATE_REFUSED


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"address": "web"}, "connection.address: 'web' is not an IP address"),
        ({"address": "fd00::1"}, "are of two families"),
        ({"address": "10.96.0.1", "port": 70_000}, "connection.port: 70000 is not 1 to 65535"),
    ],
)
async def test_a_connection_that_is_none_is_refused_and_says_which_field(
    asked: Asked, fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(Aborted, match=text):
        await explained(asked, **fields)


async def test_two_nodes_differ_in_what_their_agents_say_and_what_services_mean_there(asked: Asked) -> None:
    local = replace(objects.service(1), internal_traffic_policy=2)
    there = Node("node-1", addresses=(bytes((192, 168, 0, 2)),))
    asked.cluster.update([Fact(SERVICE, local), Fact(there.key, there)])
    applied(asked, "a")
    other = applied(asked, "node-1")
    rev = asked.cluster.log.head
    ack(other, received_rev=rev, applied_rev=rev, failed=[pb.ObjectFailure(key=key_message(SERVICE), text="no room")])
    request = inspection.DiffRequest(node_name="a", other_node_name="node-1")

    answer = await asked.inspection.Diff(request, asked.context)

    assert [(each.field, each.node, each.other) for each in answer.fields] == [
        ("failed Service ns/svc-1", "does not fail", "no room")
    ]
    assert [(each.frontend, each.node, each.other) for each in answer.services] == [
        ("10.96.0.1:80/TCP (IPv4)", "DROP", "10.0.0.1:8080")
    ]


# ---------------------------------------------------------------- what happens


async def test_changes_are_told_as_they_come_readable_and_as_they_are_asked_for(asked: Asked) -> None:
    before = objects.slice_of(1, dict.fromkeys(range(1, 9), READY))
    asked.cluster.update([Fact(before.key, before)])
    request = inspection.TailChangesRequest(kind=objects_pb2.KIND_ENDPOINT_SLICE, after_rev=asked.cluster.log.head)
    calls = asked.inspection.TailChanges(request, asked.context)
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    changed = objects.slice_of(1, {**dict.fromkeys(range(2, 9), READY), 2: int(Conditions.TERMINATING)})
    asked.cluster.update([Fact(changed.key, changed, "77")])

    told = await anext(calls)
    await calls.aclose()  # type: ignore[attr-defined]

    assert (told.rev, told.key.name, told.resource_version) == (asked.cluster.log.head, "svc-1-abc", "77")
    assert told.change == inspection.CHANGE_KIND_MODIFIED
    assert told.text == "10.0.0.2 terminating, 10.0.0.1 gone"


async def test_changes_that_are_no_longer_kept_are_counted(asked: Asked) -> None:
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    asked.cluster.log.expire(float("inf"))
    calls = asked.inspection.TailChanges(inspection.TailChangesRequest(after_rev=1), asked.context)
    told = await anext(calls)
    await calls.aclose()  # type: ignore[attr-defined]
    assert told.lost_revs == asked.cluster.log.tail - 1


async def test_a_dump_has_everything_and_an_end_that_counts_it(asked: Asked) -> None:
    applied(asked, "a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    parts = [part async for part in asked.inspection.Dump(inspection.DumpRequest(), asked.context)]

    kinds = [part.WhichOneof("part") for part in parts]
    assert kinds[0] == "status"
    assert kinds[-1] == "end"
    assert parts[-1].end.parts == len(parts) - 1
    dumped = [part.object.key for part in parts if part.WhichOneof("part") == "object"]
    assert [(each.kind, each.name) for each in dumped] == [(1, "svc-1"), (1, "svc-2"), (2, "svc-1-abc"), (3, "a")]
    assert kinds.count("node") == 1
    assert "change" in kinds


async def test_a_node_is_told_to_take_the_whole_state_anew(asked: Asked) -> None:
    session = applied(asked, "a")
    answer = await asked.inspection.ForceResync(inspection.ForceResyncRequest(node_name="a"), asked.context)
    assert answer.server_id == "s1"
    message = session.next_message(time.monotonic() + 1)
    assert pb.WatchResponse.FromString(message).WhichOneof("message") == "snapshot_begin"
    with pytest.raises(Aborted, match="node b has no agent at any replica"):
        await asked.inspection.ForceResync(inspection.ForceResyncRequest(node_name="b"), asked.context)
