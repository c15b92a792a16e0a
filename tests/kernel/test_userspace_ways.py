"""The ways to bring traffic to the proxy: tried, chosen, changed by others, taken away, and done without."""

from __future__ import annotations

import select
import subprocess

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import Masquerade, NodeForwarding, Verdict
from nodeagent.dataplane.userspace.cleanup import cleanup
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.probe import probe
from nodeagent.dataplane.userspace.program import program
from tests.kernel.nftables_support import entry, nft, node_addresses, packed, targets
from tests.kernel.userspace_support import KEY, SETTINGS, cluster_ip, node_port, service, userspace, vip
from tools.lab.client import REFUSED, TIMEOUT, Connection, connect, many
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel

BOTH = pytest.mark.parametrize("family", [4, 6])
OURS = ("list", "table", "ip", "deltaplane-userspace")
IPTABLES = pytest.mark.parametrize("flavour", ["nft", "legacy"])


def run(space: Namespace, *command: str) -> str:
    return subprocess.run(
        ["ip", "netns", "exec", space.name, *command], capture_output=True, text=True, check=True
    ).stdout


@BOTH
def test_the_program_is_what_the_stock_tool_makes_of_its_text(clean: Fabric, family: int) -> None:
    space, name = clean.nodes[0].space, "ip" if family == 4 else "ip6"
    listed = ("list", "table", name, "deltaplane-userspace")
    with userspace(space, replace(SETTINGS, redirect="nft")) as made:
        made.apply([], complete=True)
        ours = nft(space, *listed)
    nft(space, "-f", "-", stdin=program(family, SETTINGS).text())
    assert nft(space, *listed) == ours


@pytest.mark.parametrize("way", ["", "nft", "iptables-nft", "iptables-legacy"])
def test_a_probe_leaves_nothing(clean: Fabric, way: str) -> None:
    space = clean.nodes[0].space
    before = nft(space, "list", "ruleset"), run(space, "ip", "address", "show", "lo")
    with space.entered():
        probe(replace(SETTINGS, redirect=way))
    assert (nft(space, "list", "ruleset"), run(space, "ip", "address", "show", "lo")) == before


@pytest.mark.parametrize("way", ["nft", "iptables-nft", "iptables-legacy"])
def test_what_was_programmed_is_taken_away_by_name(clean: Fabric, way: str) -> None:
    node = clean.nodes[0]
    with node.space.entered():
        cleanup()  # addresses on the loopback interface that another test left
    for command in ("add table ip somebody", "add chain ip somebody theirs"):
        nft(node.space, *command.split())
    before = nft(node.space, "list", "ruleset"), run(node.space, "ip", "address", "show", "lo")
    made = UserspaceDataplane(replace(SETTINGS, redirect=way))
    with node.space.entered():
        made.start()
        web = service(*(entry(cluster_ip(family), targets(clean.pods, family)) for family in (4, 6)))
        made.apply([web], node_addresses(node), complete=True)
        made.close()
        removed = cleanup()
        assert len(removed) == (4 if way == "nft" else 6), removed
        assert cleanup() == ()
    assert (nft(node.space, "list", "ruleset"), run(node.space, "ip", "address", "show", "lo")) == before
    nft(node.space, "delete", "table", "ip", "somebody")


def test_what_kube_proxy_left_of_its_userspace_mode_goes_too(clean: Fabric) -> None:
    space = clean.nodes[0].space
    with space.entered():
        cleanup()
    rule = "-A KUBE-PORTALS-HOST -d 172.30.0.9/32 -p tcp -j DNAT --to 10.0.0.1:1"
    for command in ("-N KUBE-PORTALS-HOST", "-N KUBE-MINE", "-I OUTPUT -j KUBE-PORTALS-HOST", rule):
        run(space, "iptables-nft", "-t", "nat", *command.split())
    with space.entered():
        assert cleanup() == ("iptables-nft nat: 1 chains of userspace mode",)
    left = run(space, "iptables-nft-save", "-t", "nat")
    assert "PORTALS" not in left
    assert "KUBE-MINE" in left
    nft(space, "delete", "table", "ip", "nat")


def test_what_others_do_to_our_table_is_put_right(clean: Fabric, echo: EchoServers) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with userspace(node.space, replace(SETTINGS, redirect="nft")) as made:
        made.apply([service(entry(cluster_ip(4), targets([pod], 4)))], node_addresses(node), complete=True)
        before = nft(node.space, *OURS)
        for damage in ("flush map ip deltaplane-userspace redirects", "delete table ip deltaplane-userspace"):
            nft(node.space, *damage.split())
            assert select.select([made.fileno()], [], [], 20)[0]
            assert made.drifted()
            assert made.repair().elements
            assert nft(node.space, *OURS) == before
            assert not made.drifted()
            assert connect(node.clients[0].space, vip(4), 80).name == pod.name


@pytest.mark.parametrize("way", ["nft", "iptables-nft", "iptables-legacy"])
def test_nobody_comes_to_a_listener_but_by_a_redirect(clean: Fabric, echo: EchoServers, way: str) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    web = service(*(entry(cluster_ip(family), targets([pod], family)) for family in (4, 6)))
    with userspace(node.space, replace(SETTINGS, redirect=way)) as made:
        made.apply([web], node_addresses(node), complete=True)
        for address in SETTINGS.addresses:
            held = run(node.space, "ss", "-Hltn", "src", f"[{address}]" if ":" in address else address)
            port = int(held.split()[3].rpartition(":")[2])
            for space in (node.clients[0].space, node.space):
                assert connect(space, address, port, timeout=0.2).kind == TIMEOUT
        assert connect(node.clients[0].space, vip(4), 80).answered
        assert connect(node.clients[0].space, vip(6), 80).answered


@pytest.mark.parametrize("way", ["nft", "iptables-nft"])
@pytest.mark.parametrize("pods", [{"interface": "pods"}, {"interface": "pod*"}, {"cluster_cidrs": ()}])
def test_inside_is_what_the_detector_says_and_may_change(
    clean: Fabric, echo: EchoServers, way: str, pods: dict[str, object]
) -> None:
    node, servers = clean.nodes[0], clean.pods
    for pod in servers:
        echo.start_pod(pod)
    mine, everyone = {pod.name for pod in node.servers}, {pod.name for pod in servers}
    settings = replace(SETTINGS, redirect=way, **{"cluster_cidrs": (), **pods})
    policy = replace(entry(node_port(4), targets(servers, 4)), local_targets=targets(node.servers, 4))
    inside, outside = node.clients[0].space, clean.outside[0].space
    with userspace(node.space, settings) as made:
        made.apply([service(policy)], node_addresses(node), complete=True)
        assert set(many(node.space, node.address(), 30080, 12)) == everyone
        assert set(many(outside, node.address(), 30080, 12)) == mine
        assert set(many(inside, node.address(), 30080, 12)) == (everyone if settings.interface else mine)
        listeners = made.count().listeners
        with Connection(outside, node.address(), 30080) as kept:
            held = kept.open()
            made.configure(replace(settings, interface="", cluster_cidrs=("203.0.113.0/24",), node_only=True))
            assert kept.ask() == held
        assert made.count().listeners == listeners
        assert set(many(outside, node.address(), 30080, 12)) == everyone
        assert set(many(inside, node.address(), 30080, 12)) == mine


@IPTABLES
def test_a_rule_that_others_took_is_noticed_with_the_next_change(
    clean: Fabric, echo: EchoServers, flavour: str
) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    web = service(entry(cluster_ip(4), targets([pod], 4)))
    with userspace(node.space, replace(SETTINGS, redirect=f"iptables-{flavour}")) as made:
        made.apply([web], node_addresses(node), complete=True)
        run(node.space, f"iptables-{flavour}", "-t", "nat", "-F", "DELTAPLANE-US-IPS")
        made.apply([service(entry(cluster_ip(4), ()))])  # its rule cannot be deleted: it is gone
        assert connect(node.clients[0].space, vip(4), 80).kind == REFUSED
        run(node.space, f"iptables-{flavour}", "-t", "nat", "-F", "PREROUTING")
        assert made.repair().elements
        made.apply([web])
        assert connect(node.clients[0].space, vip(4), 80).name == pod.name


@IPTABLES
def test_a_restart_on_iptables_writes_nothing(clean: Fabric, echo: EchoServers, flavour: str) -> None:
    node, pods = clean.nodes[0], clean.pods
    echo.start_pod(pods[0])
    settings = replace(SETTINGS, redirect=f"iptables-{flavour}")
    refused = entry(cluster_ip(4, 17), ())
    dropped = entry(node_port(6), targets(pods, 6))
    dropped = replace(dropped, masquerade=Masquerade.NODE_ONLY, local_targets=(), external_verdict=Verdict.DROP)
    wanted = [service(entry(cluster_ip(4), targets(pods[:1], 4)), refused, dropped)]
    with userspace(node.space, settings) as made:
        everywhere = NodeForwarding((packed(node.v4[0]),), match_all_families=(6,))
        made.apply(wanted, everywhere, complete=True)
        made.close()
        with userspace(node.space, settings) as again:
            done = again.apply(wanted, everywhere, complete=True)
            assert (done.messages, done.elements) == (0, 0)
            assert connect(node.clients[0].space, vip(4), 80).name == pods[0].name
            assert again.apply([], NodeForwarding(), complete=True).elements
            for table in ("nat", "filter"):
                assert " 192.168" not in run(node.space, f"iptables-{flavour}-save", "-t", table)
                assert "--dport" not in run(node.space, f"iptables-{flavour}-save", "-t", table)
                assert "--dport" not in run(node.space, f"ip6tables-{flavour}-save", "-t", table)


def test_sctp_is_reported_and_the_other_ports_work(clean: Fabric, echo: EchoServers) -> None:
    node, pod = clean.nodes[0], clean.pods[0]
    echo.start_pod(pod)
    with userspace(node.space) as made:
        backends = targets([pod], 4)
        done = made.apply(
            [service(entry(cluster_ip(4, 132), backends), entry(cluster_ip(4), backends))],
            node_addresses(node), complete=True,
        )  # fmt: skip
        assert [(failed.key, failed.code) for failed in done.failed] == [(KEY, "UNSUPPORTED")]
        assert "SCTP" in done.failed[0].text
        assert not made.pending()
        assert connect(node.clients[0].space, vip(4), 80).name == pod.name
