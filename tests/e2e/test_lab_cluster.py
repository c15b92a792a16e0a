"""The laboratory's cluster itself: a real API server that takes objects, knows identities and survives restarts."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.e2e.conftest import Cluster
from tools.lab import kubeproxy, manifests
from tools.lab.client import connect, many, until
from tools.lab.echo import EchoServers
from tools.lab.jaeger import Jaeger
from tools.lab.rest import Refused, Rest
from tools.lab.rules import delete_tables


def test_services_get_addresses_of_both_families_and_kubectl_sees_them(cluster: Cluster, objects: Rest) -> None:
    made = objects.apply(manifests.service("web", [manifests.port(80, 8080)], ipFamilyPolicy="RequireDualStack"))
    v4, v6 = made["spec"]["clusterIPs"]
    assert v4.startswith("172.30.")
    assert v6.startswith("fd00:10:96::")
    shown = json.loads(cluster.api.kubectl("get", "service", "web", "-o", "json"))
    assert shown["spec"]["clusterIPs"] == [v4, v6]


def test_nodes_have_their_addresses_and_zones(cluster: Cluster) -> None:
    for node in cluster.fabric.nodes:
        seen = cluster.api.admin.get("Node", node.name)
        assert [a["address"] for a in seen["status"]["addresses"]] == [node.v4[0], node.v6[0], node.name]
        assert seen["metadata"]["labels"]["topology.kubernetes.io/zone"] == node.zone


def test_the_control_planes_account_may_read_what_it_watches_and_write_nothing(cluster: Cluster) -> None:
    config = f"--kubeconfig={cluster.kubeconfig}"
    for what in ("services", "endpointslices.discovery.k8s.io", "nodes"):
        for verb, answer in (("watch", "yes"), ("list", "yes"), ("delete", "no")):
            assert cluster.api.kubectl("auth", "can-i", verb, what, "-A", config, check=False).strip() == answer


def test_objects_survive_a_restart_and_a_compaction_forgets_the_past(cluster: Cluster, objects: Rest) -> None:
    service = objects.apply(manifests.service("web", [manifests.port(80)]))
    old = service["metadata"]["resourceVersion"]
    objects.apply(manifests.service("web", [manifests.port(81)]))
    cluster.api.compact()
    cluster.api.restart()
    assert objects.get("Service", "web")["spec"]["ports"][0]["port"] == 81
    with pytest.raises(Refused) as gone:
        objects.call("GET", "/api/v1/services", resourceVersion=old, resourceVersionMatch="Exact", limit=1)
    assert gone.value.status == 410


def test_jaeger_answers_queries(jaeger: Jaeger) -> None:
    assert jaeger.services_known()


@pytest.mark.slow
def test_the_reference_proxy_serves_a_service_here(cluster: Cluster, objects: Rest, servers: EchoServers) -> None:
    node = cluster.fabric.nodes[0]
    client = node.clients[0].space
    made = objects.apply(manifests.service("web", [manifests.port(80, 8080)], ipFamilyPolicy="RequireDualStack"))
    for part in manifests.slices("web", cluster.fabric.pods, [manifests.slice_port(8080)]):
        objects.apply(part)
    try:
        with kubeproxy.start(node, cluster.api.admin_kubeconfig, cluster.folder):
            for address in made["spec"]["clusterIPs"]:
                answers = partial(connect, client, address, 80, timeout=0.3)
                until(lambda: answers().answered, 20, what=f"{address} answers")  # noqa: B023 - called in this round
                assert set(many(client, address, 80, 150)) == {pod.name for pod in cluster.fabric.pods}
    finally:
        delete_tables([node.space])
