"""What an operator sees by hand in iptables mode: the chains of a Service one after the other (W2), no ping (W10)."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

import pytest

from nodeagent.dataplane.iptables import naming
from nodeagent.linux.iptables.programs import Flavour
from tests.kernel.iptables_support import FLAVOURS, cleaned, dataplane
from tests.kernel.nftables_support import node_addresses
from tests.kernel.test_iptables_packets import vip, web
from tools.lab.client import connect
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.rules import run

pytestmark = pytest.mark.kernel


@pytest.fixture(autouse=True)
def _spotless(clean: Fabric) -> Iterator[None]:
    with cleaned(clean.nodes[0].space):
        yield


def pinged(space: Namespace, address: str) -> bool:
    """Whether the address answers an ICMP echo request within half a second."""
    with space.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.settimeout(0.5)
        sock.sendto(b"\x08\x00\xf7\xff\x00\x00\x00\x00", (address, 0))
        try:
            while True:
                answer, (sender, _) = sock.recvfrom(256)
                if sender == address and answer[20] == 0:
                    return True
        except TimeoutError:
            return False


@FLAVOURS
def test_w2_lists_the_nat_table(clean: Fabric, flavour: Flavour) -> None:
    node, pods = clean.nodes[0], clean.pods[:3]
    program = f"iptables-{flavour.value}"
    with dataplane(node.space, flavour) as made:
        made.apply([web(pods, 4)], node_addresses(node), complete=True)

        def chain(name: str) -> list[str]:
            return run(node.space, program, "-t", "nat", "-n", "-L", name).splitlines()[2:]

        for hook in ("OUTPUT", "PREROUTING"):
            assert [line.split()[0] for line in chain(hook)] == [naming.SERVICES]
        service = naming.chain(naming.SVC, "default/web:p", "tcp")
        assert any(line.startswith(service) and "default/web:p cluster IP" in line for line in chain(naming.SERVICES))
        marked, *ways = chain(service)
        assert marked.startswith(naming.MARK_MASQ)
        chances = [re.search(r"probability (\d\.\d{5})", line) for line in ways]
        assert [found and found[1] for found in chances] == ["0.33333", "0.50000", None]
        for line, pod in zip(ways, sorted(pods, key=lambda pod: pod.v4), strict=True):
            assert f"default/web:p -> {pod.v4}:8080" in line
            assert chain(line.split()[0])[-1].endswith(f"to:{pod.v4}:8080")


@FLAVOURS
def test_w10_a_cluster_ip_answers_no_ping(clean: Fabric, echo: EchoServers, flavour: Flavour) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    client = node.clients[0].space
    with dataplane(node.space, flavour) as made:
        made.apply([web([pod], 4)], node_addresses(node), complete=True)
        assert connect(client, vip(4), 80).name == pod.name
        assert pinged(client, node.gateway(4))
        assert not pinged(client, vip(4))


@FLAVOURS
def test_w16_a_change_writes_its_own_lines_only(clean: Fabric, flavour: Flavour) -> None:
    """Counted by the agent and seen in the tables: a chain that was not touched is as it was."""
    node, pods = clean.nodes[0], clean.pods[:3]
    with dataplane(node.space, flavour) as made:
        made.apply([web(pods[:2], 4)], node_addresses(node), complete=True)
        kept = naming.chain(naming.SEP, "default/web:p", "tcp", f"{pods[0].v4}:8080")
        run(node.space, f"iptables-{flavour.value}", "-t", "nat", "-R", kept, "1", "-s", pods[0].v4, "-j", "ACCEPT")
        done = made.apply([web(pods, 4)])
        assert (done.messages, done.elements) == (1, 8)
        listed = run(node.space, f"iptables-{flavour.value}", "-t", "nat", "-S", kept)
        assert "-j ACCEPT" in listed  # somebody else's change of a chain that this one did not touch
