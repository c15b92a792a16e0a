"""API objects to facts; the ids of the cases are rows of docs/behaviour.md."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest

from controlplane.errors import InvalidObject
from controlplane.source import objects
from controlplane.source.translate import TYPES, Translation, translate
from deltaplane import model
from deltaplane.model import Conditions, IpMode, Kind, Protocol, ServiceType, TrafficPolicy

READY, SERVING, TERMINATING = Conditions.READY, Conditions.SERVING, Conditions.TERMINATING


def _meta(**more: Any) -> dict[str, Any]:
    return {"name": "web", "namespace": "shop", "resourceVersion": "7", **more}


def _translate(kind: Kind, content: dict[str, Any]) -> Translation:
    return translate(kind, msgspec.convert(content, TYPES[kind]), 5)


def _service(labels: dict[str, str] | None = None, status: dict[str, Any] | None = None, **spec: Any) -> Translation:
    spec = {"clusterIP": "10.96.0.1", "ports": [{"port": 80}], **spec}
    return _translate(Kind.SERVICE, {"metadata": _meta(labels=labels), "spec": spec, "status": status or {}})


def _slice(
    labels: dict[str, str] | None = None, annotations: dict[str, str] | None = None, **content: Any
) -> Translation:
    labels = {"kubernetes.io/service-name": "web"} if labels is None else labels
    whole = {"addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], **content}
    return _translate(Kind.ENDPOINT_SLICE, {"metadata": _meta(labels=labels, annotations=annotations), **whole})


def _as_service(translation: Translation) -> model.Service:
    assert isinstance(translation.fact.object, model.Service)
    return translation.fact.object


def _as_slice(translation: Translation) -> model.EndpointSlice:
    assert isinstance(translation.fact.object, model.EndpointSlice)
    return translation.fact.object


def test_a_service_in_canonical_form() -> None:
    translation = _service(
        type="LoadBalancer",
        clusterIPs=["fd00::1", "10.96.0.1"],
        ports=[
            {"name": "dns", "protocol": "UDP", "port": 53, "nodePort": 30053},
            {"name": "dns-tcp", "port": 53, "targetPort": "x"},
        ],
        externalIPs=["192.0.2.9", "192.0.2.1", "192.0.2.9"],
        loadBalancerSourceRanges=[" 10.0.0.1/8 ", "2001:DB8::/32"],
        sessionAffinity="ClientIP",
        sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}},
        internalTrafficPolicy="Local",
        externalTrafficPolicy="Local",
        healthCheckNodePort=31000,
        status={"loadBalancer": {"ingress": [{"ip": "203.0.113.9", "ipMode": "Proxy"}, {"ip": "203.0.113.1"}]}},
    )
    assert translation.problems == ()
    assert translation.fact.resource_version == "7"
    assert translation.fact.event_unix_nano == 5
    assert translation.fact.object == model.Service(
        namespace="shop",
        name="web",
        type=ServiceType.LOAD_BALANCER,
        cluster_ips=(bytes.fromhex("fd000000000000000000000000000001"), bytes([10, 96, 0, 1])),
        ports=(
            model.ServicePort("dns", Protocol.UDP, 53, 30053),
            model.ServicePort("dns-tcp", Protocol.TCP, 53),
        ),
        external_ips=(bytes([192, 0, 2, 1]), bytes([192, 0, 2, 9])),
        load_balancer_ingress=(
            model.LoadBalancerIngress(bytes([203, 0, 113, 1]), IpMode.VIP),
            model.LoadBalancerIngress(bytes([203, 0, 113, 9]), IpMode.PROXY),
        ),
        load_balancer_source_ranges=("10.0.0.0/8", "2001:db8::/32"),
        internal_traffic_policy=TrafficPolicy.LOCAL,
        external_traffic_policy=TrafficPolicy.LOCAL,
        session_affinity_seconds=60,
        health_check_node_port=31000,
    )


@pytest.mark.parametrize(
    "translation",
    [
        pytest.param(_service(clusterIP="None"), id="A4 headless"),
        pytest.param(_service(clusterIP="", clusterIPs=["None"]), id="A4 headless, by list"),
        pytest.param(_service(clusterIP=""), id="A4 not allocated yet"),
        pytest.param(_service(type="ExternalName"), id="A5 with an address all the same"),
        pytest.param(_service({"service.kubernetes.io/service-proxy-name": ""}), id="A12 any value"),
        pytest.param(_slice({"kubernetes.io/service-name": "w", "service.kubernetes.io/headless": ""}), id="A13"),
    ],
)
def test_no_concern_of_a_proxy_is_absent_without_a_report(translation: Translation) -> None:
    assert translation.fact.object is None
    assert translation.problems == ()


def test_affinity_lasts_three_hours_unless_said() -> None:
    assert _as_service(_service(sessionAffinity="ClientIP")).session_affinity_seconds == 10800


@pytest.mark.parametrize(
    "spec, problem, attribute, rest",
    [
        (
            {"ports": [{"port": 0}, {"port": 80, "name": "b"}]},
            "spec.ports[0].port: 0 is not",
            "ports",
            (model.ServicePort("b", Protocol.TCP, 80),),
        ),
        (
            {"ports": [{"port": 1, "protocol": "ICMP"}]},
            "spec.ports[0].protocol: 'ICMP' is not TCP, UDP or SCTP",
            "ports",
            (),
        ),
        (
            {"ports": [{"port": 80}, {"port": 80, "name": "x"}]},
            "spec.ports[1]: has the name",
            "ports",
            (model.ServicePort("", Protocol.TCP, 80),),
        ),
        (
            {"ports": [{"port": 80, "nodePort": 30000}]},
            "spec.ports[0].nodePort: 30000 belongs to",
            "ports",
            (model.ServicePort("", Protocol.TCP, 80),),
        ),
        (
            {"externalIPs": ["a", "192.0.2.1"]},
            "spec.externalIPs[0]: 'a' is not an IP address",
            "external_ips",
            (bytes([192, 0, 2, 1]),),
        ),
        (
            {"loadBalancerSourceRanges": ["10.0.0.0/33", "10.0.0.0/8"]},
            "spec.loadBalancerSourceRanges[0]",
            "load_balancer_source_ranges",
            ("10.0.0.0/8",),
        ),
        (
            {"clusterIPs": ["10.0.0.1", "10.0.0.2"]},
            "spec.clusterIPs: a second address of one family",
            "cluster_ips",
            (bytes([10, 0, 0, 1]),),
        ),
        (
            {"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 0}}},
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 0",
            "session_affinity_seconds",
            10800,
        ),
    ],
)
def test_a_partly_bad_service_keeps_the_rest(spec: dict[str, Any], problem: str, attribute: str, rest: object) -> None:
    translation = _service(**spec)
    assert len(translation.problems) == 1
    assert translation.problems[0].startswith(problem)
    assert getattr(translation.fact.object, attribute) == rest


@pytest.mark.parametrize(
    "spec, text",
    [
        ({"clusterIP": "10.0.0"}, "Service shop/web: spec.clusterIPs[0]: '10.0.0' is not an IP address"),
        ({"type": "Magic"}, "Service shop/web: spec.type: 'Magic' is not one of ClusterIP, NodePort, LoadBalancer"),
        ({"internalTrafficPolicy": "Near"}, "Service shop/web: spec.internalTrafficPolicy: 'Near' is not one of Clu"),
        ({"loadBalancerSourceRanges": ["all"]}, "Service shop/web: spec.loadBalancerSourceRanges[0]: 'all' is not a C"),
    ],
)
def test_an_unusable_service_names_object_field_and_reason(spec: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidObject) as raised:
        _service(**spec)
    assert str(raised.value).startswith(text)


def test_an_object_without_a_name_is_unusable() -> None:
    with pytest.raises(InvalidObject, match=r"metadata\.name: missing"):
        translate(Kind.NODE, objects.Node())


@pytest.mark.parametrize(
    "conditions, bits",
    [
        (None, READY | SERVING),
        ({}, READY | SERVING),
        ({"ready": None, "serving": None, "terminating": None}, READY | SERVING),
        ({"ready": False}, SERVING),
        ({"ready": False, "serving": True, "terminating": True}, SERVING | TERMINATING),
        ({"ready": False, "serving": False, "terminating": True}, TERMINATING),
    ],
)
def test_e1_nil_conditions_are_resolved(conditions: dict[str, Any] | None, bits: int) -> None:
    (endpoint,) = _as_slice(_slice(endpoints=[{"addresses": ["10.0.0.1"], "conditions": conditions}])).endpoints
    assert endpoint.conditions == bits


def test_an_endpoint_with_all_its_facts() -> None:
    thing = {
        "addresses": ["10.0.0.1"],
        "nodeName": "n1",
        "zone": "z1",
        "hints": {"forZones": [{"name": "b"}, {"name": "a"}, {"name": "a"}], "forNodes": [{"name": "n1"}]},
    }
    assert _as_slice(_slice(endpoints=[thing])).endpoints == (
        model.Endpoint(bytes([10, 0, 0, 1]), READY | SERVING, "n1", "z1", ("a", "b"), ("n1",)),
    )


@pytest.mark.parametrize(
    "content, problem",
    [
        pytest.param({"addressType": "FQDN"}, "addressType: 'FQDN' cannot be forwarded to", id="E3"),
        pytest.param({"labels": {}}, "metadata.labels[kubernetes.io/service-name]: missing", id="E4"),
    ],
)
def test_a_slice_of_no_use_is_absent_and_reported(content: dict[str, Any], problem: str) -> None:
    translation = _slice(**content)
    assert translation.fact.object is None
    assert translation.problems[0].startswith(problem)


@pytest.mark.parametrize("text", ["10.0.0.1", "010.000.00.001", "::ffff:10.0.0.1", "::ffff:010.0.0.1"])
def test_e5_addresses_are_read_leniently(text: str) -> None:
    assert _as_slice(_slice(endpoints=[{"addresses": [text]}])).endpoints[0].address == bytes([10, 0, 0, 1])


def test_e5_only_the_first_address_counts() -> None:
    translation = _slice(endpoints=[{"addresses": ["10.0.0.1", "nonsense"]}])
    assert translation.problems == ()
    assert [e.address for e in _as_slice(translation).endpoints] == [bytes([10, 0, 0, 1])]


@pytest.mark.parametrize(
    "addresses, reason",
    [
        ([], "none"),
        (["fe80::1%eth0"], "is not an IP"),
        (["1.2.3.400"], "is not an IP"),
        (["fd00::1"], "not of addressT"),
    ],
)
def test_a_bad_endpoint_is_skipped_and_the_others_stay(addresses: list[str], reason: str) -> None:
    translation = _slice(endpoints=[{"addresses": addresses}, {"addresses": ["10.0.0.2"]}])
    assert reason in translation.problems[0]
    assert translation.problems[0].startswith("endpoints[0].addresses: ")
    assert [e.address for e in _as_slice(translation).endpoints] == [bytes([10, 0, 0, 2])]


@pytest.mark.parametrize(
    "port, problem",
    [
        ({"port": 80}, "ports[0].name: missing; port skipped"),
        ({"name": "a"}, "ports[0].port: None is not 1..65535; port skipped"),
        ({"name": "a", "port": 0}, "ports[0].port: 0 is not 1..65535; port skipped"),
        (
            {"name": "a", "port": 1, "protocol": "ICMP"},
            "ports[0].protocol: 'ICMP' is not TCP, UDP or SCTP; port skipped",
        ),
    ],
)
def test_e6_an_incomplete_port_is_skipped(port: dict[str, Any], problem: str) -> None:
    translation = _slice(ports=[port, {"name": "", "port": 81}])
    assert translation.problems == (problem,)
    assert _as_slice(translation).ports == (model.EndpointPort("", Protocol.TCP, 81),)


@pytest.mark.parametrize(
    "first, second, node",
    [
        pytest.param({}, {}, "second", id="of two alike the later node name"),
        pytest.param({}, {"terminating": True}, "first", id="a terminating copy never counts beside a live one"),
        pytest.param({}, {"ready": False, "serving": False}, "first", id="nor an unready one beside a ready one"),
        pytest.param(
            {"ready": False, "serving": True, "terminating": True},
            {"ready": False, "serving": False},
            "first",
            id="one that serves while it terminates counts beside an unready one",
        ),
    ],
)
def test_e8_duplicates_in_one_slice(first: dict[str, Any], second: dict[str, Any], node: str) -> None:
    endpoints = [
        {"addresses": ["10.0.0.1"], "nodeName": "first", "conditions": first},
        {"addresses": ["10.0.0.01"], "nodeName": "second", "conditions": second},
    ]
    for order in (endpoints, endpoints[::-1]):
        assert [e.node for e in _as_slice(_slice(endpoints=order)).endpoints] == [node]


def test_the_order_of_endpoints_and_ports_does_not_matter() -> None:
    endpoints = [{"addresses": [f"10.0.0.{n}"]} for n in range(1, 30)]
    ports = [{"name": name, "port": 80, "protocol": protocol} for name in "ab" for protocol in ("TCP", "UDP")]
    expected = _slice(endpoints=endpoints, ports=ports)
    Random(1).shuffle(endpoints)
    Random(2).shuffle(ports)
    assert _slice(endpoints=endpoints, ports=ports) == expected


def test_null_lists_are_empty_lists() -> None:
    piece = _as_slice(_slice(endpoints=None, ports=None))
    assert (piece.endpoints, piece.ports) == ((), ())


@pytest.mark.parametrize(
    "text, nanoseconds",
    [
        ("1970-01-01T00:00:01Z", 1_000_000_000),
        ("1970-01-01T00:00:01.000000002Z", 1_000_000_002),
        ("1970-01-01T02:00:01.5+02:00", 1_500_000_000),
        ("yesterday", 0),
        ("1970-13-01T00:00:01Z", 0),
    ],
)
def test_the_trigger_time_is_kept_to_the_nanosecond(text: str, nanoseconds: int) -> None:
    fact = _slice(annotations={"endpoints.kubernetes.io/last-change-trigger-time": text}).fact
    assert fact.trigger_unix_nano == nanoseconds


def test_l2_k3_a_node_with_all_its_facts() -> None:
    content = {
        "metadata": {
            "name": "n1",
            "uid": "u1",
            "labels": {"topology.kubernetes.io/zone": "z"},
            "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
        "spec": {"podCIDRs": ["10.1.0.0/24", "fd00:1::/64"], "taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]},
        "status": {
            "addresses": [
                {"type": "ExternalIP", "address": "203.0.113.1"},
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalIP", "address": "192.168.0.2"},
                {"type": "InternalIP", "address": "fd00::2"},
                {"type": "InternalIP", "address": "bad"},
            ]
        },
    }
    translation = _translate(Kind.NODE, content)
    assert translation.problems == ("status.addresses[4].address: 'bad' is not an IP address; skipped",)
    assert translation.fact.object == model.Node(
        name="n1",
        uid="u1",
        addresses=(bytes([192, 168, 0, 2]), bytes.fromhex("fd" + "00" * 14 + "02"), bytes([203, 0, 113, 1])),
        zone="z",
        pod_cidrs=("10.1.0.0/24", "fd00:1::/64"),
        deleting=True,
        to_be_deleted_by_autoscaler=True,
    )


def test_a_heartbeat_does_not_change_a_node() -> None:
    before = {"metadata": {"name": "n", "resourceVersion": "1"}, "status": {"conditions": [{"t": 1}]}}
    after = {"metadata": {"name": "n", "resourceVersion": "2"}, "status": {"conditions": [{"t": 2}]}}
    assert _translate(Kind.NODE, before).fact.object == _translate(Kind.NODE, after).fact.object


def test_service_cidrs_in_canonical_form_also_while_one_is_deleted_f6() -> None:
    content = {
        "metadata": {"name": "more", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"cidrs": ["fd00:96::1/112", "010.096.00.1/12", "10.96.0.0/12", "10.0.0.0"]},
        "status": {"conditions": [{"type": "Ready", "status": "False"}]},
    }
    translation = _translate(Kind.SERVICE_CIDR, content)
    assert translation.fact.object == model.ServiceCidr("more", ("10.96.0.0/12", "fd00:96::/112"))
    assert translation.problems == ("spec.cidrs[3]: '10.0.0.0' is not a CIDR (address/length); skipped",)


def test_a_service_cidr_without_a_spec_has_no_ranges() -> None:
    assert _translate(Kind.SERVICE_CIDR, {"metadata": {"name": "none"}}).fact.object == model.ServiceCidr("none", ())


def test_a_bad_ingress_and_health_check_port_are_left_out() -> None:
    ingress = [{"hostname": "lb"}, {"ip": "x"}, {"ip": "192.0.2.1", "ipMode": "Odd"}, {"ip": "192.0.2.2"}]
    translation = _service(healthCheckNodePort=70000, status={"loadBalancer": {"ingress": ingress}})
    assert _as_service(translation).load_balancer_ingress == (model.LoadBalancerIngress(bytes([192, 0, 2, 2])),)
    assert _as_service(translation).health_check_node_port == 0
    assert [problem.partition(": ")[0] for problem in translation.problems] == [
        "status.loadBalancer.ingress[1].ip",
        "status.loadBalancer.ingress[2].ipMode",
        "spec.healthCheckNodePort",
    ]


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "2262-04-11T23:47:17Z", "9999-12-31T23:59:59Z"]
)
def test_a_trigger_time_that_the_wire_cannot_say_is_none(text: str) -> None:
    fact = _slice(annotations={"endpoints.kubernetes.io/last-change-trigger-time": text}).fact
    assert fact.object is not None
    assert fact.trigger_unix_nano == 0
