"""What a scrape of a running agent says of its mode's own figures, and that the limits of userspace mode hold."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from nodeagent.linux.iptables.flavour import detect
from tools.lab import manifests
from tools.lab.client import TIMEOUT, Connection, connect, until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node
from tools.lab.rules import run, wipe

VIP = "172.30.8.8"
LIMITS = ("--userspace-max-connections=1", "--userspace-max-udp-clients=2", "--udp-timeout=1m", "--drain-period=0s")
Scrape = Callable[[str], float | None]


@pytest.fixture
def node(clean: Fabric, echo: EchoServers) -> Iterator[Node]:
    """The first one, whose first pod answers, without anything of any mode."""
    echo.start_pod(clean.pods[0])
    for one in clean.nodes:
        wipe(one.space)
    yield clean.nodes[0]
    for one in clean.nodes:
        wipe(one.space)


@pytest.fixture
def line(clean: Fabric, node: Node, tmp_path: Path) -> Iterator[Deployment]:
    """Programs that are not started, and a Service `web` in front of the pod, over TCP and UDP."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    ports = [manifests.port(80, 8080, "t", "TCP", 30088), manifests.port(80, 8080, "u", "UDP", 30088)]
    behind = [manifests.slice_port(8080, "t"), manifests.slice_port(8080, "u", "UDP")]
    manifests.write(
        folder / "all.yaml",
        *(manifests.node_object(one) for one in clean.nodes),
        manifests.service("web", ports, [VIP], kind="NodePort"),
        *manifests.slices("web", clean.pods[:1], behind),
    )
    source = ("--source=manifests", f"--manifests={folder}")
    with Deployment(clean, tmp_path, *source, agent_flags=LIMITS) as made:
        yield made


def begin(line: Deployment, node: Node, mode: str) -> Scrape:
    """Starts all in this mode; gives what asks this node's agent."""
    for agent in line.agents.values():
        agent.mode = mode
    line.start(timeout=60)

    def scrape(sample: str) -> float | None:
        page = run(node.space, "curl", "-s", "http://127.0.0.1:10249/metrics")
        found = re.search(rf"^{re.escape(sample)} (\S+)$", page, re.MULTILINE)
        return float(found[1]) if found else None

    until(lambda: scrape("deltaplane_stream_connected") == 1, 20)
    return scrape


def test_iptables_says_how_many_rules_there_are(line: Deployment, node: Node) -> None:
    scrape = begin(line, node, "iptables")
    with node.space.entered():
        flavour = detect().value
    name = "kubeproxy_sync_proxy_rules_iptables"
    for family, program in (("IPv4", "iptables"), ("IPv6", "ip6tables")):
        for table in ("filter", "nat"):
            text = run(node.space, f"{program}-{flavour}-save", "-t", table)
            ours = re.findall(r"^-A KUBE-(?!FIREWALL)", text, re.MULTILINE)
            assert scrape(f'{name}_total{{ip_family="{family}",table="{table}"}}') == len(ours)
        for kind in ("restore", "partial_restore"):
            assert scrape(f'{name}_{kind}_failures_total{{ip_family="{family}"}}') == 0


def test_userspace_takes_no_more_than_it_may_and_says_how_much_there_is(line: Deployment, node: Node) -> None:
    scrape = begin(line, node, "userspace")
    client = node.clients[0].space
    with ExitStack() as stack:
        first = stack.enter_context(Connection(client, VIP, 80))
        assert first.open().answered
        until(lambda: scrape("deltaplane_userspace_connections_open") == 1, 20)  # not while a commit is under way
        second = stack.enter_context(Connection(client, VIP, 80, timeout=0.5))
        assert second.open().kind == TIMEOUT  # it waits in the kernel's queue
        until(lambda: scrape("deltaplane_userspace_listeners_waiting") == 1, 20)
    until(lambda: scrape("deltaplane_userspace_connections_open") == 0, 20)
    assert all(connect(client, VIP, 80, "udp").answered for _ in range(3))
    # The first gave way, the others are not forgotten.
    until(lambda: scrape("deltaplane_userspace_udp_clients_open") == 2, 20)
    assert scrape("deltaplane_userspace_udp_clients_total") == 3
    assert scrape("deltaplane_userspace_failed_clients_total") == 0
    assert (scrape("deltaplane_userspace_connections_total") or 0) >= 1
