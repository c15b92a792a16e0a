"""Which Pod asks is told by the address that it calls from, and by nothing else."""

from __future__ import annotations

import pytest

from deltaplane.addresses import parse_address
from deltaplane.model import Endpoint, EndpointPort, EndpointSlice
from nodeagent.drain.callers import Caller, Place, Refused, caller, packed, stranger

HERE = Place("a", frozenset(map(parse_address, ("192.0.2.1", "fd00::1", "127.0.0.1"))), ("10.244.0.0/16", "fd01::/48"))


def piece(address: str, node: str, service: str = "web") -> EndpointSlice:
    endpoint = Endpoint(parse_address(address), node=node)
    family = 6 if ":" in address else 4
    return EndpointSlice("shop", f"{service}-1", service, family, (EndpointPort("", 6, 80),), (endpoint,))


@pytest.mark.parametrize("address", ["10.244.1.7", "fd01::7"])
def test_a_pod_of_this_node_is_known_by_its_address_in_both_families(address: str) -> None:
    asks = parse_address(address)
    assert caller(asks, HERE, [piece(address, "a"), piece(address, "a", "api"), piece("10.244.1.8", "a", "no")]) == (
        Caller(asks, frozenset({("shop", "web"), ("shop", "api")}))
    )


def test_an_ipv4_client_of_a_socket_of_both_families_is_known() -> None:
    assert packed("::ffff:10.244.1.7") == parse_address("10.244.1.7")


@pytest.mark.parametrize("address", ["192.0.2.1", "fd00::1", "127.0.0.1", "127.9.9.9", "::1"])
def test_a_host_network_pod_is_refused_and_told_why(address: str) -> None:
    with pytest.raises(Refused, match="this node's own address, which hostNetwork Pods, the kubelet") as refused:
        caller(parse_address(address), HERE, [piece(address, "a")])
    assert refused.value.status == 403


def test_a_pod_of_another_node_is_sent_to_its_agent() -> None:
    with pytest.raises(Refused, match=r"10\.244\.2\.7 is an endpoint on node b: ask the agent of that node"):
        caller(parse_address("10.244.2.7"), HERE, [piece("10.244.2.7", "b")])


def test_who_is_no_endpoint_and_outside_the_pods_ranges_is_refused() -> None:
    with pytest.raises(Refused, match=r"203\.0\.113\.5 is no endpoint, and not in the Pods' ranges 10\.244"):
        caller(parse_address("203.0.113.5"), HERE, [])
    assert stranger(parse_address("203.0.113.5"), HERE)


def test_an_endpoint_outside_the_ranges_is_a_pod_all_the_same() -> None:
    assert caller(parse_address("10.9.1.7"), HERE, [piece("10.9.1.7", "a")]).services == {("shop", "web")}


def test_a_pod_that_is_in_no_slice_any_more_may_ask() -> None:
    assert caller(parse_address("10.244.1.7"), HERE, []) == Caller(parse_address("10.244.1.7"))


@pytest.mark.parametrize("host", ["", "fe80::1%eth0", "nonsense"])
def test_what_is_no_address_of_an_endpoint_is_refused(host: str) -> None:
    with pytest.raises(Refused, match="is not an address that an endpoint can have"):
        packed(host)
