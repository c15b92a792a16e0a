"""Services, endpoints and Nodes as tables; what two nodes differ in; changes in a line."""

from __future__ import annotations

from typing import Any

import pytest

from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.output import Answer, Form, written
from operatorcli.views import changes, commits, diff, forwarding, objects
from tests.unit.operatorcli.long import LABEL, NOW, SUBDOMAIN, failing, service, widest

SERVICES = """\
NAMESPACE  NAME  TYPE      CLUSTER IP            PORTS                              CHANGED
shop       web   NodePort  10.96.0.10, fd00::10  http 80:30080/TCP, metrics 90/TCP       12
"""
ENDPOINTS = """\
ENDPOINT    PORTS          STATE                 NODE    ZONE
10.244.1.7  http 8080/TCP  ready                 node-a  zone-1
10.244.2.7  http 8080/TCP  terminating, serving  node-b  zone-2
10.244.3.7  http 8080/TCP  not ready             -       -
"""
DIFF = """\
AGENT                   node-a    node-b
revision in the kernel  47        46
proxy mode              nftables  iptables

SERVICE       FRONTEND           node-a           node-b
svc/shop/web  10.96.0.10:80/TCP  10.244.1.7:8080  -
"""
FORWARDING = """\
FRONTEND           KIND          NEW CONNECTIONS  ENDPOINTS
10.96.0.10:80/TCP  ClusterIP     forwarded        10.244.1.7:8080, 10.244.2.7:8080
*:30080/TCP        NodePort      forwarded        10.244.1.7:8080, 10.244.2.7:8080
*:30080/TCP        from outside  refused          none
"""
ACKNOWLEDGED = pb.Basis(acknowledged=True)


def web(name: str = "web", namespace: str = "shop", port: str = "http") -> views_pb2.ObjectView:
    ports = [
        views_pb2.ServicePortView(name=port, protocol="TCP", port=80, node_port=30080),
        views_pb2.ServicePortView(name="metrics", protocol="TCP", port=90),
    ]
    view = views_pb2.ServiceView(type="NodePort", cluster_ips=["10.96.0.10", "fd00::10"], ports=ports)
    return views_pb2.ObjectView(key=service(name, namespace), changed_rev=12, service=view)


def slice_of(node: str = "node-a") -> views_pb2.ObjectView:
    endpoints = [
        views_pb2.EndpointView(address="10.244.1.7", ready=True, serving=True, node=node, zone="zone-1"),
        views_pb2.EndpointView(address="10.244.2.7", serving=True, terminating=True, node="node-b", zone="zone-2"),
        views_pb2.EndpointView(address="10.244.3.7"),
    ]
    ports = [views_pb2.ServicePortView(name="http", protocol="TCP", port=8080)]
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_ENDPOINT_SLICE, namespace="shop", name="web-v4")
    made = views_pb2.EndpointSliceView(service="web", family="IPv4", ports=ports, endpoints=endpoints)
    return views_pb2.ObjectView(key=key, endpoint_slice=made)


def resolved() -> pb.ResolveForNodeResponse:
    both: dict[str, Any] = {"endpoints": ["10.244.1.7:8080", "10.244.2.7:8080"], "verdict": "FORWARD"}
    cluster = views_pb2.FrontendView(frontend="10.96.0.10:80/TCP", kind="ClusterIP", **both)
    node_port = views_pb2.FrontendView(
        frontend="*:30080/TCP", kind="NodePort", external_policy_local=True, external_verdict="REJECT", **both
    )
    view = views_pb2.ForwardingView(service=service("web", "shop"), frontends=[cluster, node_port])
    return pb.ResolveForNodeResponse(forwarding=view, basis=ACKNOWLEDGED)


def differing() -> pb.DiffResponse:
    return pb.DiffResponse(
        fields=[
            pb.FieldDifference(field="applied_rev", node="47", other="46"),
            pb.FieldDifference(field="proxy_mode", node="nftables", other="iptables"),
        ],
        services=[
            pb.ServiceDifference(service=service("web", "shop"), frontend="10.96.0.10:80/TCP", node="10.244.1.7:8080")
        ],
        node=ACKNOWLEDGED,
        other=ACKNOWLEDGED,
    )


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (objects.services([web()]), SERVICES),
        (objects.endpoints(pb.GetObjectResponse(object=web(), endpoint_slices=[slice_of()])), ENDPOINTS),
        (forwarding.answer(resolved(), "node-a", NOW)[0], FORWARDING),
        (diff.answer(differing(), "node-a", "node-b", NOW)[0], DIFF),
    ],
)
def test_the_tables_are(answer: Answer, wanted: str) -> None:
    assert written(answer, Form.TABLE) == wanted


def longest() -> list[Answer]:
    far = differing()
    far.services.add(service=service(), frontend="[2001:db8::ffff]:65535/SCTP", node=SUBDOMAIN, other=LABEL)
    wide = resolved()
    wide.forwarding.frontends[0].endpoints.extend(f"[2001:db8::{number:x}]:65535" for number in range(300))
    one = pb.GetObjectResponse(object=web(LABEL, LABEL, LABEL), endpoint_slices=[slice_of(SUBDOMAIN)])
    return [
        objects.services([web(LABEL, LABEL, LABEL)]), objects.service(one), objects.endpoints(one),
        objects.slices([slice_of(SUBDOMAIN)]), forwarding.answer(wide, SUBDOMAIN, NOW)[0],
        diff.answer(far, SUBDOMAIN, SUBDOMAIN, NOW)[0],
    ]  # fmt: skip


@pytest.mark.parametrize("answer", longest())
def test_the_longest_names_stay_within_a_hundred_columns(answer: Answer) -> None:
    assert widest(written(answer, Form.TABLE)) <= 100


@pytest.mark.parametrize("form", [Form.JSON, Form.YAML])
def test_other_forms_have_the_whole_message(form: Form) -> None:
    text = written(forwarding.answer(resolved(), "node-a", NOW)[0], form)

    for word in ("external_verdict", "acknowledged", "10.244.2.7:8080", "rev"):
        assert word in text


def test_nodes_that_are_the_same_are_a_yes() -> None:
    answer, code = diff.answer(pb.DiffResponse(node=ACKNOWLEDGED, other=ACKNOWLEDGED), "node-a", "node-b", NOW)

    assert code is Exit.YES
    assert written(answer, Form.TABLE) == "node-a and node-b do not differ.\n"


def test_a_node_that_is_behind_is_no_yes_and_is_named_first_with_what_has_changed() -> None:
    behind = pb.Basis(acknowledged=True, applied_rev=1, head_rev=3, changed=[service("web", "shop")], more_changed=9)
    found = pb.DiffResponse(
        node=behind, other=ACKNOWLEDGED, fields=[pb.FieldDifference(field="state", node="NODE_STATE_DISCONNECTED")]
    )

    answer, code = diff.answer(found, "node-a", "node-b", NOW)

    text = written(answer, Form.TABLE)
    assert code is Exit.NO
    assert text.startswith("node-a does not have the newest: node-a has acknowledged revision 1 of 3; since then")
    assert "svc/shop/web and 9 more changed" in " ".join(text.split())
    assert "agent's stream  disconnected" in text


def test_nothing_in_a_namespace_names_those_that_have_some() -> None:
    text = written(objects.none("default", ["shop", "test"]), Form.TABLE)

    assert text.splitlines()[0] == "No resources found in default namespace."
    assert "shop and test: -A" in text


def test_a_service_says_when_its_endpoints_changed() -> None:
    piece = slice_of()
    piece.changed_rev, piece.changed_unix_nano = 47, 1_800_000_000_123_000_000
    view = web()
    view.changed_rev, view.endpoints_changed_rev = 0, 47

    text = written(objects.service(pb.GetObjectResponse(object=view, endpoint_slices=[piece])), Form.TABLE)

    assert "changed            not since the replica has the whole state" in text
    assert "endpoints changed  revision 47 at 08:00:00.123Z" in text
    assert objects.changed(view) == "47"


def test_an_object_whose_newest_form_is_refused_says_so() -> None:
    view = web()
    view.problem = "port 0"

    assert "svc/shop/web: its newest form cannot be used" in written(objects.services([view]), Form.TABLE)


def test_a_failure_on_the_node_is_beside_what_it_should_do() -> None:
    found = resolved()
    found.failed.append(failing(key=service("web", "shop")))

    answer, code = forwarding.answer(found, "node-a", NOW)

    text = written(answer, Form.TABLE)
    assert code is Exit.NO
    assert text.startswith("node-a: svc/shop/web fails with KERNEL_REJECTED")
    assert text.index("node-a's kernel does something") < text.index("10.96.0.10:80/TCP")


def test_a_change_is_a_line() -> None:
    change = pb.TailChangesResponse(
        rev=47, key=service("web", "shop"), change=pb.CHANGE_KIND_MODIFIED, resource_version="4711",
        event_unix_nano=1_800_000_000_123_000_000, text="10.244.1.7 not ready",
    )  # fmt: skip

    assert changes.line(change) == "08:00:00.123Z  rev 47  modified  svc/shop/web@4711  10.244.1.7 not ready"
    assert changes.line(pb.TailChangesResponse(lost_revs=3)).startswith("-  3 revisions no longer kept one by one")


def test_a_commit_is_a_line() -> None:
    commit = pb.TailCommitsResponse(node_name="node-a", event_to_commit_ns=12_300_000)
    commit.commit.to_rev, commit.commit.commit_ns, commit.commit.kernel_messages = 47, 1_500_000, 1
    for name in "abcde":
        cause = commit.causes.add(resource_version="1", event_unix_nano=1_800_000_000_000_000_000)
        cause.object.CopyFrom(service(name, "shop"))

    assert commits.line(commit) == (
        "08:00:00.012Z  node-a  rev 47  in the kernel 12.3 ms after the event (commit 1.5 ms, 1 kernel message):"
        "  svc/shop/a@1, svc/shop/b@1, svc/shop/c@1 and 2 more"
    )
