"""Services in, listeners and redirects out: on kernels in memory, with sockets on loopback."""

from __future__ import annotations

import socket
from collections import Counter

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry
from nodeagent.dataplane.set_members import OWN_POD_MEMBER
from nodeagent.dataplane.userspace.dataplane import CALM
from nodeagent.dataplane.userspace.plan import Port
from nodeagent.dataplane.userspace.proxy import Order, Proxy
from nodeagent.dataplane.userspace.redirects import Redirects
from nodeagent.dataplane.userspace.settings import Settings
from tests.unit.nodeagent.dataplane.userspace.support import (
    NODE,
    A,
    B,
    Make,
    Server,
    entry,
    leads_to,
    node_port,
    packed,
    running,
    service,
    vip,
)
from tools.lab.client import until


def talk(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.settimeout(5)
        return connection.recv(100).decode()


def test_a_redirect_leads_to_a_listener_that_asks_the_endpoints_in_turn(make: Make) -> None:
    servers = [Server(name) for name in "abc"]
    redirects = make()
    with running(redirects) as made:
        done = made.apply([service(entry(vip(), *(one.target for one in servers)))], NODE, complete=True)
        assert done.failed == ()
        port = leads_to(redirects)
        assert Counter(talk(port) for _ in range(6)) == Counter("aabbcc")
        servers[0].close()
        assert Counter(talk(port) for _ in range(6)) == Counter("bbbccc")
    for one in servers[1:]:
        one.close()


def test_another_list_is_no_business_of_the_kernels(make: Make) -> None:
    redirects = make()
    with running(redirects) as made:
        made.apply([service(entry(vip(), A), entry(node_port(), A))], NODE, complete=True)
        port = leads_to(redirects)
        for backends in ((A, B), (B,)):
            done = made.apply([service(entry(vip(), *backends), entry(node_port(), *backends))])
            assert (done.messages, done.elements, done.size) == (0, 0, 0)
        assert leads_to(redirects) == port
        assert made.apply([service(entry(vip()))]).elements
        assert leads_to(redirects) == 0
        assert made.count().listeners == 0


def test_one_endpoint_among_many_services_costs_one_order_and_nothing_else(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[Port] = []
    serve = Proxy.serve

    def spy(proxy: Proxy, wanted: dict[Port, Order]) -> dict[Port, int | str]:
        orders.extend(wanted)
        return serve(proxy, wanted)

    monkeypatch.setattr(Proxy, "serve", spy)

    def web(number: int, *backends: tuple[bytes, int]) -> Entry:
        return entry(vip(number), *backends)  # type: ignore[arg-type]

    redirects = make()
    for size in (10, 150):
        with running(redirects) as made:
            wanted = [service(web(number, A, B), name=f"s{number}") for number in range(1, size + 1)]
            made.apply(wanted, NODE, complete=True)
            assert len(orders) == size
            orders.clear()
            done = made.apply([service(web(7, A), name="s7")])
            assert [port.owner.name for port in orders] == ["s7"]
            assert (done.messages, done.elements, done.size) == (0, 0, 0)
            assert made.apply(wanted, NODE, complete=True).messages == 0
            assert len(orders) == 2  # the one that differs
        orders.clear()
        redirects = redirects if size == 150 else make()


def test_a_restart_keeps_ports_and_writes_nothing_and_then_takes_what_is_left_over(make: Make) -> None:
    wanted = [service(entry(vip(), A), entry(vip(2)), entry(node_port(17), A)), service(entry(vip(3), A), name="old")]
    first = make()
    with running(first) as made:
        made.apply(wanted, NODE, complete=True)
        ports = leads_to(first), leads_to(first, 3)
    again = make()
    with running(again) as made:
        assert made.apply(wanted[:1], NODE).messages == 0
        assert (leads_to(again), leads_to(again, 3)) == ports
        assert made.apply(wanted[:1], NODE, complete=True).elements >= 1
        assert (leads_to(again), leads_to(again, 3)) == (ports[0], 0)
    with socket.create_server(("127.0.0.1", ports[0])), running(third := make()) as made:
        made.apply(wanted[:1], NODE, complete=True)
        assert leads_to(third) not in (0, ports[0])  # somebody has that port: the redirect follows


def test_other_settings_replace_what_stands_with_the_first_complete_apply(make: Make) -> None:
    with running(make()) as made:
        made.apply([service(entry(vip(), A))], NODE, complete=True)
    redirects = make()
    redirects.configure(Settings(("10.180.0.0/16",)))
    with running(redirects) as made:
        assert made.apply([service(entry(vip(), A))], NODE).messages == 0
        assert (redirects.foreign, made.pending()) == (True, True)
        assert made.apply([service(entry(vip(), A))], NODE, complete=True).elements
        assert (redirects.foreign, made.pending()) == (False, False)
        made.configure(Settings(("10.181.0.0/16",)))
        assert leads_to(redirects)


def test_an_address_goes_from_one_service_to_another_in_any_order(make: Make) -> None:
    """Whose it is, is decided before; here the last word counts, whichever of the two Services comes first."""
    servers = [Server(name) for name in "ab"]
    one, other = (service(entry(vip(), server.target), name=server.name.decode()) for server in servers)
    redirects = make()
    with running(redirects) as made:
        made.apply([one], NODE, complete=True)
        port = leads_to(redirects)
        assert made.apply([other, service(name="a")]).failed == ()
        assert leads_to(redirects) not in (0, port)
        assert talk(leads_to(redirects)) == "b"
        assert made.apply([service(name="b"), one]).failed == ()
        assert talk(leads_to(redirects)) == "a"
        assert not made.pending()
        assert made.count().listeners == 1
    for server in servers:
        server.close()


def test_what_a_mode_does_not_carry_is_told_and_never_pending(make: Make) -> None:
    with running(make()) as made:
        sctp = service(entry(vip(2, protocol=132), A), name="sctp")
        done = made.apply([sctp, service(entry(vip(), A))], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [("sctp", "UNSUPPORTED")]
        assert not made.pending()
        assert made.apply([service(entry(vip(2), A), name="sctp")]).failed == ()


def test_it_is_superseded_once_nothing_has_led_to_it_for_some_looks(make: Make) -> None:
    """Not at the first: a client that was redirected before may be in the middle of connecting."""
    server, redirects = Server("a"), make()
    with running(redirects) as made:
        made.apply([service(entry(vip(), server.target))], NODE, complete=True)
        port = leads_to(redirects)
        assert not any(made.superseded() for _ in range(CALM + 1))
        held = socket.create_connection(("127.0.0.1", port), timeout=5)
        assert held.recv(100)
        made.apply([], NODE, complete=True)
        assert not any(made.superseded() for _ in range(CALM + 1))
        held.close()
        until(lambda: not made.count().connections)
        assert [made.superseded() for _ in range(CALM)] == [False] * (CALM - 1) + [True]
    server.close()


def test_this_nodes_pod_cidrs_stand_beside_the_redirects_and_move_alone(make: Make) -> None:
    """L3, C1: a restart with the same ones writes nothing."""
    web, here = service(entry(vip(), A)), replace(NODE, pod_cidrs=("10.180.1.0/24", "fd00:10:180:1::/64"))
    moved = replace(NODE, pod_cidrs=("10.180.2.0/24",))
    with running(first := make()) as made:
        made.apply([web], here, complete=True)
        assert own_pods(first) == {packed("10.180.1.0"), packed("fd00:10:180:1::")}
        port = leads_to(first)
        assert made.apply([], moved).failed == ()
        assert (own_pods(first), leads_to(first)) == ({packed("10.180.2.0")}, port)
    with running(make()) as made:
        assert made.apply([web], moved, complete=True).messages == 0


def own_pods(redirects: Redirects) -> set[bytes]:
    """The first addresses of the ranges."""
    slots = [slot for slot in redirects.read() if slot[1] == OWN_POD_MEMBER and len(slot) in (10, 34)]
    return {slot[2 : 1 + len(slot) // 2] for slot in slots}
