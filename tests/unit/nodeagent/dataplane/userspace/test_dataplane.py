"""Services in, listeners and redirects out: on kernels in memory, with sockets on loopback."""

from __future__ import annotations

import errno
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, NodeForwarding
from nodeagent.dataplane.nftables.render import OWN_POD_MEMBER
from nodeagent.dataplane.userspace.dataplane import CALM
from nodeagent.dataplane.userspace.direct import DirectRedirects
from nodeagent.dataplane.userspace.iptables import IptablesRedirects
from nodeagent.dataplane.userspace.nft import NftRedirects
from nodeagent.dataplane.userspace.plan import Port
from nodeagent.dataplane.userspace.proxy import Order, Proxy
from nodeagent.dataplane.userspace.redirects import Redirects
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import REDIRECTS
from nodeagent.errors import KernelUnavailable
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.userspace.support import (
    LOCAL,
    Server,
    entry,
    node_port,
    packed,
    running,
    service,
    target,
    vip,
)
from tools.lab.client import until

NODE = NodeForwarding((packed("192.0.2.1"),), service_cidrs=("172.30.0.0/16",))
A, B = target(9), target(10)  # nobody listens there


class Nft(NftRedirects):
    """Listeners are at localhost, which is there."""

    def place(self, family: int) -> bytes:
        return packed("127.0.0.1" if family == 4 else "::1")


class Iptables(IptablesRedirects):
    def place(self, family: int) -> bytes:
        return packed("127.0.0.1" if family == 4 else "::1")


Make = Callable[[], Redirects]


@pytest.fixture(params=["nft", "iptables"])
def make(request: pytest.FixtureRequest) -> Make:
    """The same machine's redirects, opened anew with every call."""
    if request.param == "nft":
        kernel = MemoryKernel()
        return lambda: Nft(LOCAL, kernel)
    tools = MemoryIptables()
    return lambda: Iptables(LOCAL, tools)


def leads_to(redirects: Redirects, number: int = 1) -> int:
    """The listener's port that a redirect of 172.30.0.<number> TCP 80 leads to."""
    for slot, placement in redirects.read().items():
        if slot[1:5] == packed(f"172.30.0.{number}") and dict(placement).get(REDIRECTS):
            return int.from_bytes(bytes(dict(placement)[REDIRECTS])[4:6], "big")  # type: ignore[arg-type]
    return 0


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


def test_two_services_with_one_address_are_told_apart_by_name(make: Make) -> None:
    redirects = make()
    with running(redirects) as made:
        one, other = service(entry(vip(), A), name="a"), service(entry(vip(), B), name="b")
        done = made.apply([other, one], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [("b", "CONFLICT")]
        port = leads_to(redirects)
        assert made.apply([service(name="a")]).failed == ()
        assert leads_to(redirects) not in (0, port)


def test_what_cannot_be_is_reported_alone(make: Make) -> None:
    redirects = make()
    with running(redirects) as made:
        odd = service(entry(vip()._replace(address=b"\1\2\3"), A), name="odd")
        endpoint = service(entry(vip(9), A._replace(address=b"")), name="endpoint")
        done = made.apply([odd, endpoint, service(entry(vip(), A))], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [
            ("odd", "INVALID_OBJECT"), ("endpoint", "INVALID_OBJECT"),
        ]  # fmt: skip
        assert leads_to(redirects)
        assert made.pending()
        made.apply([], complete=True)
        assert not made.pending()


def test_a_port_that_cannot_be_opened_is_reported_and_tried_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    redirects = make()
    with running(redirects) as made:
        with monkeypatch.context() as broken:

            def full(*_: object) -> socket.socket:
                raise OSError(errno.EMFILE, "Too many open files")

            broken.setattr("nodeagent.dataplane.userspace.sockets.listening", full)
            done = made.apply([service(entry(vip(), A))], NODE, complete=True)
            assert [failed.code for failed in done.failed] == ["RESOURCE_LIMIT"]
            assert made.pending()
        assert made.apply([]).failed == ()
        assert leads_to(redirects)
        assert not made.pending()


def test_a_kernel_that_refuses_all_is_asked_again() -> None:
    kernel = MemoryKernel()
    redirects = Nft(LOCAL, kernel)
    with running(redirects) as made:
        kernel.refusing = errno.EPERM
        with pytest.raises(KernelUnavailable, match="it is retried"):
            made.apply([service(entry(vip(), A))], NODE, complete=True)
        assert made.pending()
        kernel.refusing = 0
        assert made.apply([]).elements
        assert leads_to(redirects)


def test_iptables_that_refuse_one_rule_have_the_others() -> None:
    tools = MemoryIptables()
    with running(redirects := Iptables(LOCAL, tools)) as made:
        tools.poison = {"172.30.0.2/32"}
        done = made.apply([service(entry(vip(n), A), name=f"s{n}") for n in (1, 2, 3)], NODE, complete=True)
        assert [(failed.key.name, failed.code) for failed in done.failed] == [("s2", "KERNEL_REJECTED")]
        assert leads_to(redirects, 1)
        assert leads_to(redirects, 3)
        tools.poison = set()
        assert made.apply([]).failed == ()
        assert leads_to(redirects, 2)
        tools.refusing = "Another app is holding the lock"
        with pytest.raises(KernelUnavailable, match="lock"):
            made.apply([service(name="s2")])


def test_an_element_that_others_took_is_read_again() -> None:
    kernel = MemoryKernel()
    with running(redirects := Nft(LOCAL, kernel)) as made:
        made.apply([service(entry(vip(), A)), service(entry(vip(2), A), name="other")], NODE, complete=True)
        for table in kernel.tables.values():
            table.sets[REDIRECTS].elements.clear()
        made.apply([service()])
        assert leads_to(redirects, 1) == 0
        assert leads_to(redirects, 2)


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


def test_without_redirects_the_services_own_places_are_listened_at() -> None:
    servers = [Server(name) for name in "ab"]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at = vip()._replace(address=packed("127.0.0.1"), port=port)
    with running(DirectRedirects()) as made:
        web = [service(entry(at, *(one.target for one in servers)), entry(node_port(port=port), servers[0].target))]
        made.apply(web, NodeForwarding((packed("127.0.0.2"),)), complete=True)
        assert Counter(talk(port) for _ in range(4)) == Counter("aabb")
        assert made.apply([service(entry(at, servers[1].target))]).failed == ()
        assert Counter(talk(port) for _ in range(4)) == Counter("bbbb")
        away = at._replace(address=packed("192.0.2.77"))
        failed = made.apply([service(entry(away, servers[1].target))]).failed
        assert "192.0.2.77 TCP" in failed[0].text
        with pytest.raises(ConnectionRefusedError):
            talk(port)
    for one in servers:
        one.close()


@pytest.fixture(autouse=True)
def _nothing_is_left_open() -> Iterator[None]:
    yield
    assert not [thread for thread in threading.enumerate() if thread.name == "userspace-proxy"]


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
