"""The laboratory itself: that its network carries, refuses and drops as the other tests take for granted."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tools.lab import netns
from tools.lab.client import ANSWER, REFUSED, RESET, TIMEOUT, Connection, Outcome, connect, knocking, many
from tools.lab.echo import LINGER_RESET, EchoServers
from tools.lab.fabric import Fabric
from tools.lab.process import Process, ProcessFailed
from tools.lab.relay import Relay
from tools.lab.rules import nft

BOTH = pytest.mark.parametrize("family", [4, 6])
PROTOCOLS = pytest.mark.parametrize("protocol", ["tcp", "udp"])


@BOTH
@PROTOCOLS
def test_every_pod_answers_a_pod_a_node_and_the_outside(
    lab: Fabric, echo: EchoServers, family: int, protocol: str
) -> None:
    for pod in lab.pods:
        echo.start_pod(pod)
    near = lab.nodes[0]
    for pod in lab.pods:
        client, outside = near.clients[0], lab.outside[0]
        at = pod.address(family)
        assert connect(client.space, at, 8080, protocol) == Outcome(ANSWER, pod.name, client.address(family))
        assert connect(outside.space, at, 8080, protocol) == Outcome(ANSWER, pod.name, outside.address(family))
        own = near.gateway(family) if pod.node == near.name else near.address(family)
        assert connect(near.space, at, 8080, protocol) == Outcome(ANSWER, pod.name, own)


@BOTH
@PROTOCOLS
def test_a_closed_port_refuses_and_a_service_address_nobody_serves_times_out(
    lab: Fabric, family: int, protocol: str
) -> None:
    client = lab.nodes[0].clients[0].space
    assert connect(client, lab.pods[0].address(family), 81, protocol).kind == REFUSED
    nobody = "172.30.0.1" if family == 4 else "fd00:10:96::1"
    assert connect(client, nobody, 80, protocol, timeout=0.3).kind == TIMEOUT


@BOTH
def test_a_pod_reaches_itself_through_an_address_its_node_translates(
    clean: Fabric, echo: EchoServers, family: int
) -> None:
    node, pod = clean.nodes[0], clean.nodes[0].servers[0]
    echo.start_pod(pod)
    ip, service = ("ip", "172.30.0.9") if family == 4 else ("ip6", "fd00:10:96::9")
    own = pod.address(family)
    target = pod.v4 if family == 4 else f"[{pod.v6}]"
    nft(node.space, f"add table {ip} t; add chain {ip} t pre {{ type nat hook prerouting priority dstnat; }};"
        f"add rule {ip} t pre {ip} daddr {service} tcp dport 80 dnat to {target}:8080;"
        f"add chain {ip} t post {{ type nat hook postrouting priority srcnat; }};"
        f"add rule {ip} t post {ip} saddr {own} {ip} daddr {own} masquerade")  # fmt: skip
    assert connect(pod.space, service, 80) == Outcome(ANSWER, pod.name, node.gateway(family))


def test_counting_and_knocking_see_every_connection(lab: Fabric, echo: EchoServers) -> None:
    pod, client = lab.pods[-1], lab.nodes[0].clients[0]
    server = echo.start_pod(pod)[0]
    assert many(client.space, pod.v4, 8080, 500) == {pod.name: 500}
    with (
        knocking(client.space, pod.v4, 8080, pause=0.001) as fresh,
        knocking(client.space, pod.v4, 8080, pause=0.001, keep=True) as kept,
    ):
        while fresh.total < 20 or kept.total < 20:
            assert not fresh.failures + kept.failures
        echo.stop(server)
        while not any(outcome.kind == REFUSED for _, outcome in fresh.failures) or not kept.failures:
            pass  # one that waited to be accepted as the server went is reset; those after it are refused
    assert {outcome.kind for _, outcome in fresh.failures} <= {REFUSED, RESET}


def test_a_pod_can_be_replaced_and_a_connection_kept(lab: Fabric, echo: EchoServers) -> None:
    node, client = lab.nodes[1], lab.nodes[0].clients[0]
    pod = lab.add_pod(node)
    echo.start_pod(pod)
    with Connection(client.space, pod.v6, 8080) as connection:
        assert [connection.open().name, connection.ask().name] == [pod.name, pod.name]
        echo.stop_pod(pod)
        assert not connection.ask().answered
    lab.remove_pod(pod)
    assert pod not in lab.pods
    assert not pod.space.path.exists()


def test_what_a_dead_owner_left_is_swept_and_the_living_are_spared(lab: Fabric) -> None:
    leave = "import os; from tools.lab import netns; print(netns.create('left').name, flush=True); os._exit(1)"
    left = subprocess.run([sys.executable, "-c", leave], capture_output=True, text=True, check=False).stdout.strip()
    assert left in netns.sweep()
    assert all(space.path.exists() for space in lab.spaces)


def test_a_program_lives_in_its_namespace_and_its_end_is_told_with_its_log(lab: Fabric, tmp_path: Path) -> None:
    space = lab.apiserver.space
    with Process("lister", ["sh", "-c", "ip -br addr; exec sleep 60"], tmp_path / "l", space) as one:
        one.wait_log(rf"eth0\S*\s.*{lab.apiserver.v4}")
        assert one.pid in space.pids()
    assert one.exit_code == -15
    failing = Process("failing", ["sh", "-c", "echo no luck; exit 3"], tmp_path / "f", space)
    with pytest.raises(ProcessFailed, match=r"(?s)failing ended with 3 before ready:.*no luck"):
        failing.wait_until(lambda: False)


def test_a_relay_leads_into_the_namespace(lab: Fabric, echo: EchoServers) -> None:
    pod = lab.pods[0]
    echo.start_pod(pod)
    relay = Relay(pod.space, pod.v4, 8080)
    with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as connection:
        assert connection.recv(100).startswith(pod.name.encode())
    relay.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", relay.port), timeout=5)


def test_a_client_that_breaks_off_costs_a_relay_no_other_connection(lab: Fabric, echo: EchoServers) -> None:
    pod = lab.pods[0]
    echo.start_pod(pod)
    relay = Relay(pod.space, pod.v4, 8080)
    try:
        for _ in range(50):
            with socket.create_connection(("127.0.0.1", relay.port), timeout=5) as broken:
                assert broken.recv(100).startswith(pod.name.encode())
                broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
    finally:
        relay.close()
