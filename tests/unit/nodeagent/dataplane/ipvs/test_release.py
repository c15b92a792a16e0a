"""Another mode has taken over: no new connection comes to IPVS, those that are there end before it is taken away."""

from __future__ import annotations

import pytest

from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.names import ADDRESS, Element
from nodeagent.dataplane.ipvs.netlink_batch import Order
from nodeagent.dataplane.ipvs.release import release, strays
from nodeagent.dataplane.ipvs.state import State
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.rtnetlink import DELETE_ROUTE, LOOPBACK, local
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import NODE, NODE_ADDRESSES, SETTINGS, STATES, packed

SERVICES = max((list(state) for state in STATES.values()), key=len)


@pytest.fixture
def kernel() -> MemoryKernel:
    """With Services in it."""
    made = MemoryKernel(addresses=[packed(text) for text in NODE_ADDRESSES])
    dataplane = IpvsDataplane(made, SETTINGS)
    dataplane.start()
    dataplane.apply(SERVICES, NODE, complete=True)
    dataplane.close()
    return made


def test_real_servers_get_no_new_connections_and_virtual_servers_stay(kernel: MemoryKernel) -> None:
    virtuals = set(kernel.virtuals)
    assert any(any(held.reals.values()) for held in kernel.virtuals.values())
    assert release(kernel)  # what is on its way has to arrive
    assert set(kernel.virtuals) == virtuals
    assert not any(any(held.reals.values()) for held in kernel.virtuals.values())


def test_it_waits_for_connections_and_for_nothing_else(kernel: MemoryKernel) -> None:
    assert release(kernel)
    assert not release(kernel)
    key, held = next((key, held) for key, held in kernel.virtuals.items() if key.protocol == 6 and held.reals)
    target = next(iter(held.reals))
    kernel.connections[key, target] = 1
    sent = len(kernel.sent)
    assert release(kernel)
    assert len(kernel.sent) == sent  # nothing is written again
    kernel.connections.clear()
    assert not release(kernel)


def test_where_nothing_is_there_is_nothing_to_wait_for() -> None:
    kernel = MemoryKernel()
    assert not release(kernel)
    assert kernel.sent == []


def test_who_comes_back_serves_again(kernel: MemoryKernel) -> None:
    before, addresses = {key: dict(held.reals) for key, held in kernel.virtuals.items()}, set(kernel.addresses)
    release(kernel)
    again = IpvsDataplane(kernel, SETTINGS)
    again.start()
    again.apply(SERVICES, NODE, complete=True)
    assert {key: dict(held.reals) for key, held in kernel.virtuals.items()} == before
    assert set(kernel.addresses) == addresses


def test_the_route_of_an_address_names_its_source() -> None:
    four, six = packed("172.30.0.1"), packed("fd00:10:96::1")
    found = wire.attributes(local(four, 7, packed("192.168.0.2"))[12:])
    assert found == {1: four, 4: (7).to_bytes(4, "little"), 7: packed("192.168.0.2")}
    assert 6 in wire.attributes(local(six, LOOPBACK, packed("fd00::2"))[12:])  # beside the kernel's own, which goes


def test_what_does_not_go_with_the_link_is_taken_away() -> None:
    state = State()
    four, six = (Element(family, ADDRESS, packed(text)) for family, text in ((4, "172.30.0.1"), (6, "fd00:10:96::1")))
    state.elements.update((four, six, Element(6, names.IPVS_IPS, six.key)))
    assert [(type(order), order.command) for order in strays(state)] == [(Order, DELETE_ROUTE)]


def test_nothing_is_sent_about_routes_without_a_source(kernel: MemoryKernel) -> None:
    sent = len(kernel.sent)
    release(kernel)
    assert [channel for channel, _ in kernel.sent[sent:]] == [Channel.IPVS]
