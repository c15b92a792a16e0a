"""What only a proxy does: the next endpoint, each end's close, bytes that wait, clients that stay or move."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Entry, Target
from tests.kernel.nftables_support import entry, node_addresses, packed, targets
from tests.kernel.userspace_support import (
    SETTINGS,
    abandon,
    client,
    cluster_ip,
    in_background,
    read_all,
    server,
    service,
    userspace,
    vip,
)
from tools.lab.client import RESET, Connection, connect, knocking, many, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])


def web(family: int, backends: tuple[Target, ...], number: int = 6) -> Entry:
    return entry(cluster_ip(family, number), backends)


@BOTH
def test_a_refusing_endpoint_among_good_ones_costs_no_client_anything(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, (dead, *good) = clean.nodes[0], clean.pods
    for pod in good:
        echo.start_pod(pod)
    with userspace(node.space) as made:
        made.apply([service(web(family, targets(clean.pods, family)))], node_addresses(node), complete=True)
        found = many(node.clients[0].space, vip(family), 80, 300)
        assert set(found) == {pod.name for pod in good}
        assert dead.name not in found
        assert made.count().failed == 0


@BOTH
def test_a_refusing_udp_endpoint_passes_the_first_datagram_on(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, good = clean.nodes[0], clean.pods[1:]
    for pod in good:
        echo.start_pod(pod)
    with userspace(node.space) as made:
        made.apply([service(web(family, targets(clean.pods, family), 17))], node_addresses(node), complete=True)
        assert set(many(node.clients[0].space, vip(family), 80, 60, "udp")) == {pod.name for pod in good}


def test_a_silent_endpoint_delays_a_client_and_fails_none(clean: Fabric, echo: EchoServers) -> None:
    node, good = clean.nodes[0], clean.pods[0]
    echo.start_pod(good)
    silent = Target(packed("192.0.2.1"), 8080)  # the router drops it
    settings = replace(SETTINGS, connect_timeouts=(0.05, 0.1), suspect_seconds=60.0)
    with userspace(node.space, settings) as made:
        made.apply([service(web(4, tuple(sorted((silent, *targets([good], 4))))))], node_addresses(node), complete=True)
        assert many(node.clients[0].space, vip(4), 80, 40) == Counter({good.name: 40})
        made.apply([service(web(4, (silent,)))])
        assert connect(node.clients[0].space, vip(4), 80).kind == RESET
        assert made.count().failed == 1


@BOTH
def test_each_end_may_stop_sending_and_still_hear(clean: Fabric, family: int) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    with userspace(node.space) as made, server(pod.space, pod.address(family)) as listener:
        made.apply([service(web(family, targets([pod], family)))], node_addresses(node), complete=True)
        asking = client(node.clients[0].space, vip(family), 80)
        answering, _ = listener.accept()
        with asking, answering:
            asking.sendall(b"all of it")
            asking.shutdown(1)
            assert read_all(answering) == b"all of it"
            answering.sendall(b"heard")
            answering.shutdown(1)
            assert read_all(asking) == b"heard"
        until(lambda: made.count().connections == 0)
        asking = client(node.clients[0].space, vip(family), 80)
        answering, _ = listener.accept()
        with asking, answering:
            answering.sendall(b"greeting")
            answering.shutdown(1)
            assert read_all(asking) == b"greeting"
            asking.sendall(b"and still talking")
            asking.close()
            assert read_all(answering) == b"and still talking"
        until(lambda: made.count().connections == 0)


def test_a_reset_of_either_end_reaches_the_other(clean: Fabric) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    with userspace(node.space) as made, server(pod.space, pod.v4) as listener:
        made.apply([service(web(4, targets([pod], 4)))], node_addresses(node), complete=True)
        for first in (0, 1):
            asking = client(node.clients[0].space, vip(4), 80)
            answering, _ = listener.accept()
            answering.settimeout(10)
            ends = (asking, answering)
            asking.sendall(b"x")
            assert answering.recv(1) == b"x"
            abandon(ends[first])
            with ends[1 - first] as other, pytest.raises(ConnectionResetError):
                other.recv(1)
            until(lambda: made.count().connections == 0)


def test_what_the_receiver_does_not_take_waits_at_the_sender(clean: Fabric) -> None:
    """256 MB to a receiver that stops reading: the proxy holds one pipe of it, the rest waits; then all arrives."""
    node, pod, total = clean.nodes[0], clean.pods[0], 256 << 20
    piece = bytes(range(256)) * 4096
    with userspace(node.space) as made, server(pod.space, pod.v4) as listener:
        made.apply([service(web(4, targets([pod], 4)))], node_addresses(node), complete=True)
        asking = client(node.clients[0].space, vip(4), 80)
        asking.settimeout(60)
        answering, _ = listener.accept()
        sent = [0]

        def send() -> None:
            for _ in range(total // len(piece)):
                asking.sendall(piece)
                sent[0] += len(piece)
            asking.shutdown(1)

        sender = in_background(threading.Thread(target=send))
        seen: list[int] = []

        def stands() -> bool:
            seen.append(sent[0])
            return len(seen) > 25 and seen[-1] == seen[-25]

        until(stands)
        assert sent[0] < total // 2
        assert made.count().held <= 2 << 16
        digest, got = hashlib.sha256(), 0
        while data := answering.recv(1 << 20):
            digest.update(data)
            got += len(data)
        sender.join()
        asking.close()
        answering.close()
    assert (got, digest.digest()) == (total, hashlib.sha256(piece * (total // len(piece))).digest())


@pytest.mark.parametrize("number", [6, 17])
def test_endpoints_replaced_one_by_one_fail_no_client(clean: Fabric, echo: EchoServers, number: int) -> None:
    """Every pod is taken out, stops, and comes back before it listens again."""
    node, pods = clean.nodes[0], clean.pods
    protocol, inside = "tcp" if number == 6 else "udp", node.clients[0].space
    with userspace(node.space) as made:
        for pod in pods:
            echo.start_pod(pod)
        made.apply([service(web(4, targets(pods, 4), number))], node_addresses(node), complete=True)
        with (
            knocking(inside, vip(4), 80, protocol, pause=0.0005) as one,
            knocking(node.space, vip(4), 80, protocol, pause=0.0005) as two,
        ):
            for pod in pods * 5:
                rest = [other for other in pods if other is not pod]
                made.apply([service(web(4, targets(rest, 4), number))])
                enough = one.total + 3, two.total + 3
                until(lambda: one.total > enough[0] and two.total > enough[1])  # noqa: B023
                echo.stop_pod(pod)
                made.apply([service(web(4, targets(pods, 4), number))])
                enough = one.total + 3, two.total + 3
                until(lambda: one.total > enough[0] and two.total > enough[1])  # noqa: B023
                echo.start_pod(pod)
        assert one.failures == two.failures == []
        assert set(one.answers) == {pod.name for pod in pods}
        assert made.count().failed == 0


def test_connections_beyond_the_limit_wait_for_room(clean: Fabric, echo: EchoServers) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    inside = node.clients[0].space
    with userspace(node.space, replace(SETTINGS, max_connections=1)) as made:
        made.apply([service(web(4, targets([pod], 4)))], node_addresses(node), complete=True)
        with Connection(inside, vip(4), 80) as one:
            assert one.open().answered
            with Connection(inside, vip(4), 80, timeout=0.3) as two:
                assert two.open().kind == "timeout"
                assert made.count().waiting == 1
        assert many(inside, vip(4), 80, 20) == Counter({pod.name: 20})
        until(lambda: made.count().waiting == 0)


@BOTH
def test_a_udp_client_stays_and_moves_when_its_endpoint_goes(clean: Fabric, echo: EchoServers, family: int) -> None:
    node, pods = clean.nodes[0], clean.pods
    for pod in pods:
        echo.start_pod(pod)
    everyone = targets(pods, family)
    with userspace(node.space) as made, Connection(node.clients[0].space, vip(family), 80, "udp") as kept:
        made.apply([service(replace(web(family, everyone, 17), serving=everyone))], node_addresses(node), complete=True)
        held = kept.open().name
        assert {kept.ask().name for _ in range(10)} == {held}
        rest = targets([pod for pod in pods if pod.name != held], family)
        made.apply([service(replace(web(family, rest, 17), serving=everyone))])
        assert kept.ask().name == held  # it still serves
        made.apply([service(replace(web(family, rest, 17), serving=rest))])
        moved = kept.ask().name
        assert moved not in ("", held)
        assert {kept.ask().name for _ in range(5)} == {moved}


def test_a_silent_udp_client_is_forgotten(clean: Fabric, echo: EchoServers) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with userspace(node.space, replace(SETTINGS, udp_idle=0.2, max_flows=5)) as made:
        made.apply([service(web(4, targets([pod], 4), 17))], node_addresses(node), complete=True)
        assert many(node.clients[0].space, vip(4), 80, 20, "udp") == Counter({pod.name: 20})
        assert made.count().flows <= 5
        until(lambda: made.count().flows == 0)
