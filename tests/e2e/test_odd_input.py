"""Odd input that the API server lets through means what the rows say, and is nobody else's trouble."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from tests.e2e import tables
from tests.e2e.shop import LIMIT, SLICE_PORTS, Shop, names, reached, until_reached
from tools.lab import manifests
from tools.lab.client import TIMEOUT, knocking, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import Pod
from tools.lab.manifests import Object
from tools.lab.rest import Refused

BALANCER = "198.18.19.1"
THOUSAND, HUNDRED = 1000, 100


@contextmanager
def undisturbed(shop: Shop) -> Iterator[None]:
    """Another Service is connected to meanwhile; no connection fails, and no part of the product trips."""
    address = shop.open("bystander")[0]
    shop.endpoints(shop.fabric.pods[:2], "bystander")
    client = shop.fabric.nodes[1].clients[0].space
    until_reached(client, address, 80, "tcp", shop.fabric.pods[:2])
    with knocking(client, address, 80) as seen:
        yield
        before = seen.total
        until(lambda: seen.total > before + 20, LIMIT)
    assert seen.failures == []
    processes = [shop.line.controlplane.process, *(agent.process for agent in shop.line.agents.values())]
    assert all(process and process.running and "Traceback" not in process.output() for process in processes)


def balancer(shop: Shop, ingress: str, pods: list[Pod], **spec: Any) -> None:
    """A Service of type LoadBalancer with this address, on these pods."""
    shop.open(kind="LoadBalancer", **spec)
    with shop.line.change():
        shop.rest.patch(
            "Service", "my-service", {"status": {"loadBalancer": {"ingress": [{"ip": ingress}]}}}, sub="status"
        )
        shop.endpoints(pods)


def _stopped(refusal: Refused, text: str) -> None:
    """This API server stops what others let through: then there is nothing to hold."""
    if refusal.status != 422 or text.strip() not in str(refusal):
        raise refusal
    pytest.skip(str(refusal))


@pytest.mark.parametrize(
    "ranges",
    [
        pytest.param(["203.0.113.5/25"], id="host bits"),
        pytest.param([" 203.0.113.0/25 "], id="space around"),
        pytest.param(["203.0.113.000/25"], id="leading zeros"),
        pytest.param(["203.0.113.0/25", "203.0.113.0/25", "203.0.113.2/32"], id="repeated and nested"),
        pytest.param(["::ffff:203.0.113.0/121"], id="mapped"),
        pytest.param(["203.0.113.0/25", "2001:db8:77::/48"], id="both families"),
    ],
)
def test_odd_source_ranges(shop: Shop, ranges: list[str]) -> None:
    """The client inside the range is served, the one outside it is not, however the range is written."""
    inside, outside = (host.space for host in shop.fabric.outside)
    shop.fabric.route(f"{BALANCER}/32", shop.fabric.nodes[0])
    with undisturbed(shop):
        try:
            balancer(shop, BALANCER, shop.fabric.pods, loadBalancerSourceRanges=ranges)
        except Refused as refusal:
            _stopped(refusal, ranges[0])
        until_reached(inside, BALANCER, 80, "tcp", shop.fabric.pods)
        assert reached(outside, BALANCER, 80, "tcp", 1) == {TIMEOUT}


@pytest.mark.parametrize("text", ["010.180.01.010", "10.180.1.010"])
def test_an_endpoint_with_leading_zeros_is_decimal(shop: Shop, text: str) -> None:
    """E5, where the API lets it through."""
    pod = shop.fabric.pods[0]
    assert pod.v4 == "10.180.1.10"
    with undisturbed(shop):
        address = shop.open()[0]
        thing = manifests.endpoint_slice("my-service", [manifests.endpoint(text, pod.node)], SLICE_PORTS)
        try:
            shop.rest.create(thing)
        except Refused as refusal:
            _stopped(refusal, text)
        until_reached(shop.clients["pod"], address, 80, "tcp", [pod])


@pytest.mark.parametrize("text", ["198.018.019.002", "198.18.19.002"])
def test_an_external_address_with_leading_zeros_is_decimal(shop: Shop, text: str) -> None:
    """As for endpoints: a legacy field, which the API may still let through."""
    shop.fabric.route("198.18.19.2/32", shop.fabric.nodes[0])
    with undisturbed(shop):
        try:
            shop.open(externalIPs=[text])
        except Refused as refusal:
            _stopped(refusal, text)
        shop.endpoints(shop.fabric.pods)
        until_reached(shop.clients["outside"], "198.18.19.2", 80, "tcp", shop.fabric.pods)


def test_ports_and_endpoints_repeated_over_slices_count_once(shop: Shop) -> None:
    """E7, E8: the same port in several slices, with the same endpoints, others, and another target port."""
    pods = shop.fabric.pods
    with undisturbed(shop):
        address = shop.open()[0]
        shop.endpoints(pods[:3])
        for name, some in (("again", pods[:3]), ("over", pods[2:5])):
            members = [manifests.pod_endpoint(pod) for pod in some]
            shop.rest.create(manifests.endpoint_slice("my-service", members, SLICE_PORTS, name=name))
        dead = [manifests.endpoint(pods[0].v4, pods[0].node, ready=False, serving=True, terminating=True)]
        shop.rest.create(manifests.endpoint_slice("my-service", dead, SLICE_PORTS, name="zz-terminating"))
        shop.settle()
        assert reached(shop.clients["pod"], address, 80, "tcp") == names(pods[:5])
        with pytest.raises(Refused):  # within one slice the API stops it
            shop.rest.create(manifests.endpoint_slice("my-service", [], SLICE_PORTS * 2, name="twice"))


def test_a_slice_of_a_thousand_endpoints(shop: Shop) -> None:
    """The most the API takes; every one is in every kernel, and changes of it reach there."""
    made = [str(ip_address("10.180.200.0") + number) for number in range(THOUSAND)]
    with undisturbed(shop):
        address = shop.open()[0]
        for count in (THOUSAND, THOUSAND - 1):
            members = [manifests.endpoint(one, "elsewhere") for one in made[:count]]
            shop.rest.apply(manifests.endpoint_slice("my-service", members, SLICE_PORTS))
            shop.settle()
            found = tables.read(shop.fabric.nodes[0].space).endpoints[4, address, "tcp", 80]
            assert len(found) == count
        shop.endpoints(shop.fabric.pods)
        shop.settle()
        assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods)


def test_a_service_of_a_hundred_ports(shop: Shop) -> None:
    """Each is served at its number and at a node port, all by one slice."""
    ports = [manifests.port(1000 + number, 8080, f"p{number}") for number in range(HUNDRED)]
    open_ports = [manifests.slice_port(8080, one["name"]) for one in ports]
    with undisturbed(shop):
        address = shop.open(ports=ports, kind="NodePort")[0]
        for part in manifests.slices("my-service", shop.fabric.pods[:2], open_ports):
            shop.rest.apply(part)
        shop.settle()
        for number in (1000, 1000 + HUNDRED // 2, 999 + HUNDRED):
            assert reached(shop.clients["pod"], address, number, "tcp") == names(shop.fabric.pods[:2])
        made = shop.rest.get("Service", "my-service")["spec"]["ports"]
        node = shop.fabric.nodes[0].address(4)
        last = made[-1]["nodePort"]
        assert reached(shop.clients["outside"], node, last, "tcp") == names(shop.fabric.pods[:2])


@pytest.mark.parametrize("how", ["external address", "load balancer"])
def test_a_virtual_address_that_is_a_nodes_own(shop: Shop, servers: EchoServers, how: str) -> None:
    """The Service's port is the Service's (A8, A10); what the node itself serves at other numbers stays the node's."""
    node = shop.fabric.nodes[0]
    own = servers.start(node.space, node.address(4), 9999, "tcp", "itself")
    try:
        with undisturbed(shop):
            if how == "external address":
                shop.open(externalIPs=[node.address(4)])
                shop.endpoints(shop.fabric.pods)
            else:
                balancer(shop, node.address(4), shop.fabric.pods)
            for client in ("outside", "pod", "node"):
                until_reached(shop.clients[client], node.address(4), 80, "tcp", shop.fabric.pods)
                assert reached(shop.clients[client], node.address(4), 9999, "tcp", 5) == {"itself"}
    finally:
        servers.stop(own)


def test_a_missing_port_number_is_said_on_the_object_and_the_rest_serves(shop: Shop) -> None:
    """E6: the message names slice and field, operators read it with the cluster's problems."""
    with undisturbed(shop):
        address = shop.open()[0]
        shop.endpoints(shop.fabric.pods)
        part: Object = manifests.slices("my-service", shop.fabric.pods, SLICE_PORTS)[0]
        part["ports"] = [{"name": "dns", "protocol": "UDP"}, SLICE_PORTS[0]]
        process = shop.line.controlplane.process
        assert process is not None
        said = len(process.output())
        shop.rest.replace(part)
        process.wait_log(r"cannot use object .*my-service-v4.*ports\[\d\]\.port: None", after=said)
        shop.settle()
        assert reached(shop.clients["pod"], address, 80, "tcp") == names(shop.fabric.pods)
