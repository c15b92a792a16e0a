"""What becomes of a connection, as it is told; and which Services are near a wrong address."""

from __future__ import annotations

from deltaplane.v1 import agent_pb2, views_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Form, written
from operatorcli.views import explain
from tests.unit.operatorcli.long import LABEL, NOW, SUBDOMAIN, failing, service, widest

CONNECTION = views_pb2.Connection(source="10.244.1.7", address="10.96.0.10", port=80, protocol="TCP")
BASIS = pb.Basis(rev=47, applied_rev=47, acknowledged=True)
AGENT = agent_pb2.GetAgentResponse(
    node_name="node-a", connected=True, failed=[failing(key=service("web", "shop")), failing(key=service("db", "shop"))]
)
RESYNC = "`deltaplane resync node-a`"
GOLDEN = """\
10.244.1.7 to 10.96.0.10:80/TCP reaches svc/shop/web.

DECIDED BY  FOUND          WHY
frontend    10.96.0.10:80  it is the ClusterIP of the Service
endpoints   2 ready        traffic policy Cluster

ENDPOINT         SHARE  STATE                 NODE    ZONE    SOURCE ADDRESS
10.244.1.7:8080  50.0 %  ready                 node-a  zone-1  the node's
10.244.2.7:8080  50.0 %  serving, terminating  node-b  zone-2  its own

Taken for granted: pods are told by the Nodes' pod CIDRs
"""
WRONG = """\
10.244.1.7 to 10.96.0.10:81/TCP is of no Service here: this proxy leaves the packets alone.

NEAR SERVICE  FRONTEND           WHY
svc/shop/web  10.96.0.10:80/TCP  same address, other port
"""


def reached(name: str = "web", namespace: str = "shop", node: str = "node-a") -> views_pb2.Explanation:
    return views_pb2.Explanation(
        connection=CONNECTION, fate=views_pb2.FATE_REACHES, service=service(name, namespace),
        decisions=[
            views_pb2.Decision(what="frontend", found="10.96.0.10:80", why="it is the ClusterIP of the Service"),
            views_pb2.Decision(what="endpoints", found="2 ready", why="traffic policy Cluster"),
        ],
        choices=[
            views_pb2.Choice(endpoint="10.244.1.7:8080", probability=0.5, masqueraded=True, node=node, zone="zone-1",
                             conditions="ready"),
            views_pb2.Choice(endpoint="10.244.2.7:8080", probability=0.5, node="node-b", zone="zone-2",
                             conditions="serving, terminating"),
        ],
        assumptions=["pods are told by the Nodes' pod CIDRs"],
    )  # fmt: skip


def test_a_connection_that_reaches_an_endpoint_is_a_yes() -> None:
    answer, code = explain.answer(pb.ExplainResponse(explanation=reached(), basis=BASIS), "node-a", NOW)

    assert code is Exit.YES
    assert [line.split() for line in written(answer, Form.TABLE).splitlines()] == [
        line.split() for line in GOLDEN.splitlines()
    ]
    assert answer.names == ["svc/shop/web"]


def test_a_wrong_address_names_near_services_and_is_a_no() -> None:
    near = views_pb2.NearService(
        service=service("web", "shop"), frontend="10.96.0.10:80/TCP", why="same address, other port"
    )
    asked = views_pb2.Connection(source="10.244.1.7", address="10.96.0.10", port=81)
    explanation = views_pb2.Explanation(connection=asked, fate=views_pb2.FATE_NOT_SERVED, near=[near])

    answer, code = explain.answer(pb.ExplainResponse(explanation=explanation, basis=BASIS), "node-a", NOW)

    assert code is Exit.NO
    assert written(answer, Form.TABLE).rstrip("\n") == WRONG.rstrip("\n")
    assert answer.names == ["svc/shop/web"]


def test_what_the_node_has_not_acknowledged_or_fails_at_is_said() -> None:
    doubtful = pb.Basis(rev=48, applied_rev=47, text="svc/shop/web is newer")
    found = pb.ExplainResponse(explanation=reached(), basis=doubtful, failed=[failing(key=service("web", "shop"))])

    answer, code = explain.answer(found, "node-a", NOW)

    text = written(answer, Form.TABLE)
    above, verdict, _ = text.partition("Wanted: 10.244.1.7 to 10.96.0.10:80/TCP reaches")
    said = " ".join(above.split())
    assert verdict
    assert "What follows is wanted now (revision 48), and not what node-a has" in said
    assert "svc/shop/web is newer." in said
    assert "svc/shop/web fails with KERNEL_REJECTED" in said
    assert RESYNC in said
    assert code is Exit.NO


def test_what_the_node_has_that_is_not_the_newest_is_a_no_with_that_above_it() -> None:
    behind = pb.Basis(rev=47, applied_rev=47, head_rev=48, acknowledged=True, changed=[service("web", "shop")])

    answer, code = explain.answer(pb.ExplainResponse(explanation=reached(), basis=behind), "node-a", NOW)

    text = " ".join(written(answer, Form.TABLE).split())
    assert code is Exit.NO
    assert text.startswith("node-a does not have the newest of this: node-a has acknowledged revision 47 of 48")
    assert "since then svc/shop/web changed. What follows is what it has (revision 47). 10.244.1.7 to" in text


def test_a_kernel_that_differs_is_the_answer() -> None:
    here = agent_pb2.ExplainHereResponse(explanation=reached(), differences=["10.96.0.10:80/TCP lacks 10.244.2.7:8080"])

    answer, code = explain.here(here, AGENT)

    text = written(answer, Form.TABLE)
    assert code is Exit.NO
    assert text.startswith("The kernel differs: 10.96.0.10:80/TCP lacks 10.244.2.7:8080")
    assert "Wanted: 10.244.1.7 to" in text
    assert RESYNC in text, "the next step"


def test_what_is_wrong_elsewhere_is_said_and_does_not_count() -> None:
    found = agent_pb2.ExplainHereResponse(explanation=reached(), elsewhere=["Service shop/db is not in the kernel"])

    answer, code = explain.here(found, AGENT)

    assert code is Exit.YES
    assert "Elsewhere: Service shop/db is not in the kernel" in written(answer, Form.TABLE)
    assert RESYNC not in written(answer, Form.TABLE)


def test_other_programs_rules_that_the_packet_may_meet_are_named_and_decide_nothing() -> None:
    drops = agent_pb2.ForeignChain(table="inet edgefilter", chain="filter", hook="forward", does=["drops"])
    found = agent_pb2.ExplainHereResponse(explanation=reached(), foreign=[drops], kube_proxy_tables=["ip kube-proxy"])

    answer, code = explain.here(found, AGENT)

    text = " ".join(written(answer, Form.TABLE).split())
    assert code is Exit.YES
    assert (
        "Not part of this answer, other programs' rules: ip kube-proxy (kube-proxy's own); inet edgefilter (forward,"
        " filter: drops); deltaplane trace shows whether a packet meets them."
    ) in text
    assert '"table": "inet edgefilter"' in written(answer, Form.JSON)


def test_that_other_programs_rules_were_not_read_is_said() -> None:
    found = agent_pb2.ExplainHereResponse(explanation=reached(), foreign_error="Operation not permitted")
    text = written(explain.here(found, AGENT)[0], Form.TABLE)
    assert "Not part of this answer, other programs' rules: not read: Operation not permitted." in text


def test_a_kernel_that_has_the_same_is_said() -> None:
    answer, code = explain.here(agent_pb2.ExplainHereResponse(explanation=reached()), AGENT)

    assert code is Exit.YES
    assert "The kernel has exactly this." in written(answer, Form.TABLE)


def test_the_longest_names_stay_within_a_hundred_columns() -> None:
    explanation = reached(LABEL, LABEL, SUBDOMAIN)
    explanation.near.add(service=service(), frontend="[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535/SCTP", why=LABEL)

    answer, _ = explain.answer(pb.ExplainResponse(explanation=explanation, basis=BASIS), SUBDOMAIN, NOW)

    assert widest(written(answer, Form.TABLE)) <= 100


def test_what_a_silent_replica_may_know_better_is_no_yes_and_no_fact() -> None:
    basis = pb.Basis(
        rev=46, applied_rev=46, head_rev=47, acknowledged=True, changed=[service("web", "shop")],
        disconnected_unix_nano=int((NOW - 90) * 1e9), silent_replicas=["192.0.2.12:50051"],
    )  # fmt: skip

    answer, code = explain.answer(pb.ExplainResponse(explanation=reached(), basis=basis), "node-a", NOW)

    text = " ".join(written(answer, Form.TABLE).split())
    assert code is Exit.NO
    assert "It is not known what node-a has: 192.0.2.12:50051 may have its stream and does not answer." in text
    assert "What follows is what it had when its stream at another replica ended, 1m30s ago (revision 46)." in text
    assert "does not have the newest" not in text
