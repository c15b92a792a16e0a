"""What a node answers over HTTP, beside kube-proxy on the same node: the same questions, the same answers."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, SLICE_PORTS, Shop
from tools.lab import kubeproxy, manifests, parts
from tools.lab.client import until
from tools.lab.fabric import Node, Pod
from tools.lab.netns import Namespace
from tools.lab.rules import run

HEADERS = ("Content-Type", "X-Content-Type-Options", "X-Load-Balancing-Endpoint-Weight")
HEALTH, METRICS = 10256, 10249


class Answer(NamedTuple):
    """`headers`: those of HEADERS."""

    status: int
    headers: tuple[str | None, ...]
    body: str


GONE = Answer(0, (), "refused")


def ask(space: Namespace, address: str, port: int, path: str = "/") -> Answer:
    """GET from this namespace; GONE where nobody listens."""
    connection = http.client.HTTPConnection(address, port, timeout=5)
    try:
        with space.entered():
            connection.connect()
        connection.request("GET", path)
        found = connection.getresponse()
        return Answer(found.status, tuple(map(found.getheader, HEADERS)), found.read().decode())
    except ConnectionRefusedError:
        return GONE
    finally:
        connection.close()


class Balanced:
    """A Service with the policy Local, as a load balancer sees it at a node."""

    def __init__(self, shop: Shop, node: Node) -> None:
        self.shop, self.node = shop, node
        shop.open(kind="LoadBalancer", externalTrafficPolicy="Local")
        self.thing = {**shop.rest.get("Service", "my-service"), "apiVersion": "v1", "kind": "Service"}
        self.port: int = self.thing["spec"]["healthCheckNodePort"]

    def say(self, pods: list[Pod], **conditions: bool) -> None:
        """The slices say these pods; with conditions, they are all in this state."""
        said = conditions or {"ready": True}
        for family in (4, 6):
            items = [manifests.endpoint(pod.address(family), pod.node, **said) for pod in pods]
            self.shop.rest.apply(manifests.endpoint_slice("my-service", items, SLICE_PORTS, family=family))

    def delete(self) -> None:
        with self.shop.line.change():
            self.shop.rest.delete(self.thing)

    def answers(self) -> tuple[Answer, ...]:
        """To a client outside, in both families, on any path."""
        client = self.shop.fabric.outside[0].space
        asked = [(self.node.address(family), path) for family in (4, 6) for path in ("/", "/healthz")]
        return tuple(ask(client, address, self.port, path) for address, path in asked)

    def states(self) -> Iterator[tuple[str, int]]:
        """Brings about one state after another: its name, and how many local endpoints count."""
        here = [pod for pod in self.shop.fabric.pods if pod.node == self.node.name]
        elsewhere = [pod for pod in self.shop.fabric.pods if pod.node != self.node.name]
        leaving = {"ready": False, "serving": True, "terminating": True}
        cases: list[tuple[str, list[Pod], dict[str, bool], int]] = [
            ("all", here + elsewhere, {}, len(here)),
            ("one here", here[:1], {}, 1),
            ("elsewhere alone", elsewhere, {}, 0),
            ("terminating, but serving", here, leaving, 0),
            ("here again", here, {}, len(here)),
        ]
        for name, pods, conditions, local in cases:
            self.say(pods, **conditions)
            yield name, local

    def seen(self) -> dict[str, tuple[Answer, ...]]:
        """What was answered in every state, once it was there."""
        found = {}
        for name, local in self.states():
            until(lambda: self._weights() == {str(local)}, LIMIT, what=f"{local} local endpoints ({name})")  # noqa: B023
            found[name] = self.answers()
        return found

    def _weights(self) -> set[str | None]:
        return {answer.headers[2] if answer.headers else None for answer in self.answers()}


@pytest.fixture
def service(shop: Shop) -> Iterator[Balanced]:
    """Gone again, and everywhere, when the test is over."""
    made = Balanced(shop, shop.fabric.nodes[0])
    yield made
    made.delete()


@contextmanager
def kube_proxy(shop: Shop, cluster: Cluster, node: Node) -> Iterator[None]:
    """kube-proxy runs on the node in place of our agent, which is back afterwards."""
    try:
        parts.find("kube-proxy")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
    agent = shop.line.agents[node.name]
    agent.stop()  # its rules stay, beside kube-proxy's
    try:
        with kubeproxy.start(node, cluster.api.admin_kubeconfig, cluster.folder):
            yield
    finally:
        for family in ("ip", "ip6"):
            run(node.space, "nft", "delete", "table", family, "kube-proxy", check=False)
        agent.start()
        shop.line.wait_applied()


def test_a_load_balancers_question_gets_kube_proxys_answer(shop: Shop, cluster: Cluster, service: Balanced) -> None:
    """K1, E14: statuses, headers and body to the byte, in both families and on any path."""
    ours = service.seen()
    assert [answers[0].status for answers in ours.values()] == [200, 200, 503, 503, 200]
    with kube_proxy(shop, cluster, service.node):
        theirs = service.seen()
    assert ours == theirs


def test_the_port_closes_with_its_service(shop: Shop) -> None:
    service = Balanced(shop, shop.fabric.nodes[0])
    service.say(shop.fabric.pods)
    until(lambda: {answer.status for answer in service.answers()} == {200}, LIMIT, what="200")
    service.delete()
    until(lambda: set(service.answers()) == {GONE}, LIMIT, what="nobody listens")


def test_health_and_slis_have_kube_proxys_form(shop: Shop, cluster: Cluster) -> None:
    """K2, K3, 5.4: the same statuses and the same keys; /metrics/slis has the same series."""
    node = shop.fabric.nodes[0]
    ours = forms(node)
    with kube_proxy(shop, cluster, node):
        until(lambda: ask(node.space, "127.0.0.1", HEALTH, "/healthz").status == 200, LIMIT, what="kube-proxy")
        theirs = forms(node)
    assert ours == theirs


def forms(node: Node) -> dict[str, Any]:
    """What the node's own pages look like, without what differs from moment to moment."""

    def local(port: int, path: str) -> Answer:
        return ask(node.space, "127.0.0.1", port, path)

    found: dict[str, Any] = {}
    for path in ("/healthz", "/livez"):
        status, headers, body = local(HEALTH, path)
        found[path] = status, headers[:2], list(json.loads(body)), list(json.loads(body).get("status", {}))
    found["plain"] = local(METRICS, "/healthz")
    slis = local(METRICS, "/metrics/slis")
    families = [one for one in text_string_to_metric_families(slis.body) if one.name.startswith("kubernetes_")]
    found["slis"] = {
        (one.name, one.type, sample.name, tuple(sorted(sample.labels.items())))
        for one in families
        for sample in one.samples
    }
    found["start"] = "process_start_time_seconds" in slis.body
    return found


def test_the_endpoint_controllers_time_is_measured_to_the_commit_on_every_node(shop: Shop) -> None:
    """5.3: written into the slice's annotation at the API server, counted on the nodes once and by family."""
    shop.sell()
    before = {node.name: programmed(node) for node in shop.fabric.nodes}
    part = manifests.slices("my-service", shop.fabric.pods[:2], SLICE_PORTS)[0]
    said = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    part["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": said}
    with shop.line.change():
        shop.rest.apply(part)
    for node in shop.fabric.nodes:
        (count, total), (count_before, total_before) = programmed(node)["IPv4"], before[node.name]["IPv4"]
        assert count == count_before + 1
        assert 0 < total - total_before < LIMIT
        assert programmed(node)["IPv6"] == before[node.name]["IPv6"]


def programmed(node: Node) -> dict[str, tuple[float, float]]:
    """By family: how many changes were counted, and their seconds."""
    name, found = "kubeproxy_network_programming_duration_seconds", {}
    text = ask(node.space, "127.0.0.1", METRICS, "/metrics").body
    for one in text_string_to_metric_families(text):
        if one.name == name:
            by = {(sample.name, sample.labels.get("ip_family")): sample.value for sample in one.samples}
            found = {family: (by[f"{name}_count", family], by[f"{name}_sum", family]) for family in ("IPv4", "IPv6")}
    return found
