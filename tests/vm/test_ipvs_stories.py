"""What an operator sees in ipvs mode: virtual servers, ping, schedulers, settings, other people's virtual servers."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from deltaplane.forwarding import FrontendKind
from nodeagent.dataplane.ipvs.cleanup import cleanup
from nodeagent.dataplane.ipvs.names import DEVICE
from nodeagent.dataplane.ipvs.probe import probe
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.errors import DataplaneUnavailable
from tests.fakes.ipvs.memory import SCHEDULERS
from tests.unit.nodeagent.dataplane.ipvs.cases import packed, picture
from tests.vm.ipvs_support import SETTINGS, Placed, answers_ping, dataplane, run
from tests.vm.services import addresses, entry, service, vip
from tools.lab.client import Connection, connect, many, until
from tools.lab.echo import EchoServers
from tools.lab.fabric import CLUSTER_CIDRS, Fabric, Node


def test_ipvsadm_lists_one_server_per_address_and_endpoint_and_the_address_answers_ping(
    lab: Fabric, node: Node, serving: EchoServers
) -> None:
    web = service(
        entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods[:2]),
        entry(FrontendKind.NODE_PORT, (4, "", 6, 30080), lab.pods[:2]),
    )
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        lines = run(node.space, "ipvsadm", "-Ln").splitlines()[3:]
        shown = [" ".join(line.split()[:5]) for line in lines]
        ends = [f"-> {pod.v4}:8080 Masq 1 0" for pod in lab.pods[:2]]
        assert sorted(shown) == sorted(["TCP 172.30.0.1:80 rr", f"TCP {node.v4[0]}:30080 rr", *ends, *ends])
        assert answers_ping(node.clients[0].space, vip(4))


def test_every_scheduler_of_the_kernel_is_taken_and_shown(lab: Fabric, node: Node, serving: EchoServers) -> None:
    """W11; with rr consecutive new connections walk the endpoints in turn."""
    web = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods))
    client = node.clients[0].space
    with dataplane(node.space) as made:
        for scheduler in SCHEDULERS:
            with node.space.entered():
                made.configure(Settings(CLUSTER_CIDRS, scheduler=scheduler))
            made.apply([web], addresses(node), complete=True)
            flags = " (mh-port)" if scheduler == "mh" else ""
            assert f"TCP  172.30.0.1:80 {scheduler}{flags}" in run(node.space, "ipvsadm", "-Ln")
            assert connect(client, vip(4), 80).answered, scheduler
        with node.space.entered():
            made.configure(Settings(CLUSTER_CIDRS))
        order = [connect(client, vip(4), 80).name for _ in range(8)]
        assert order[:4] == order[4:]
        assert set(order[:4]) == {pod.name for pod in lab.pods}


def test_a_scheduler_the_kernel_lacks_is_said_by_the_probe(node: Node) -> None:
    with node.space.entered(), pytest.raises(DataplaneUnavailable, match="load ip_vs_twos"):
        probe(Settings(scheduler="twos"))


def everything(node: Node) -> list[str]:
    """What the stock tools list, without counters."""
    tools = (["ipvsadm", "-Sn"], ["ipset", "save"], ["ip", "link", "show"], ["iptables-save"], ["ip6tables-save"])
    texts = [run(node.space, *tool) for tool in tools]
    return [line for text in texts for line in text.splitlines() if not line.startswith(("#", ":"))]


def test_probe_and_cleanup_leave_nothing_and_others_alone(lab: Fabric, node: Node) -> None:
    run(node.space, "ipvsadm", "-A", "-t", "192.0.2.1:80", "-s", "lc")
    run(node.space, "ipvsadm", "-a", "-t", "192.0.2.1:80", "-r", "192.0.2.9:80", "-m", "-w", "4")
    run(node.space, "iptables", "-A", "INPUT", "-s", "192.0.2.7/32", "-j", "ACCEPT")
    run(node.space, "ipset", "create", "mine", "hash:ip")
    before = everything(node)
    with node.space.entered():
        probe()
    assert everything(node) == before
    web = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods))
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        made.apply([], complete=True)
        made.apply([web])
        with node.space.entered():
            gone = cleanup(made.driver.kernel)
    assert f"link {DEVICE}" in gone
    assert everything(node) == before


def test_timeouts_and_kernel_settings_are_made(node: Node) -> None:
    chosen = Settings(CLUSTER_CIDRS, strict_arp=True, tcp_timeout=901, tcp_fin_timeout=121, udp_timeout=301)
    with dataplane(node.space, chosen) as made:
        made.apply([], addresses(node), complete=True)
        assert "901 121 301" in run(node.space, "ipvsadm", "-L", "--timeout")
        wanted = {"vs/conntrack": "1", "vs/expire_nodest_conn": "1", "ip_forward": "1", "conf/all/arp_ignore": "1"}
        with node.space.entered():
            assert {name: Path("/proc/sys/net/ipv4", name).read_text().strip() for name in wanted} == wanted


def test_an_endpoint_drains_until_its_connection_ends(lab: Fabric, node: Node, serving: EchoServers) -> None:
    two = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods[:2]))
    one = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods[:1]))
    with dataplane(node.space) as made:
        made.apply([two], addresses(node), complete=True)
        held = [Connection(node.clients[0].space, vip(4), 80) for _ in range(2)]
        names = [connection.open().name for connection in held]
        made.apply([one])
        leaving = held[names.index(lab.pods[1].name)]
        assert leaving.ask().name == lab.pods[1].name
        assert f"{lab.pods[1].v4}:8080" in run(node.space, "ipvsadm", "-Ln")
        assert set(many(node.clients[0].space, vip(4), 80, 4)) == {lab.pods[0].name}
        for connection in held:
            connection.close()
        until(lambda: _drained(made), 30, what=lambda: run(node.space, "ipvsadm", "-Lnc"))
        assert f"{lab.pods[1].v4}:8080" not in run(node.space, "ipvsadm", "-Ln")


def _drained(made: Placed) -> bool:
    time.sleep(0.3)
    made.driver.drift._look()
    return not made.driver.writer.draining


@pytest.mark.parametrize("damage", [["ipvsadm", "-C"], ["ip", "link", "del", DEVICE], ["iptables", "-t", "nat", "-F"]])
def test_what_others_take_away_comes_back(lab: Fabric, node: Node, serving: EchoServers, damage: list[str]) -> None:
    web = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods))
    with dataplane(node.space) as made:
        made.apply([web], addresses(node), complete=True)
        before = picture(made.driver.kernel)
        assert not made.drifted()  # our own addresses are no surprise
        run(node.space, *damage)
        with node.space.entered():
            made.driver.drift._look()
        assert made.drifted()
        made.repair()
        assert picture(made.driver.kernel) == before
        assert not made.drifted()
        assert connect(node.space, vip(4), 80).answered


def test_an_address_taken_from_the_link_is_heard_at_once(node: Node, lab: Fabric) -> None:
    web = service(entry(FrontendKind.CLUSTER_IP, (4, vip(4), 6, 80), lab.pods))
    with dataplane(node.space, SETTINGS) as made:
        made.apply([web], addresses(node), complete=True)
        assert not made.drifted()
        run(node.space, "ip", "addr", "del", f"{vip(4)}/32", "dev", DEVICE)
        assert made.drifted()
        made.repair()
        assert vip(4) in run(node.space, "ip", "addr", "show", "dev", DEVICE)


def test_a_new_address_of_the_node_gets_node_ports_and_is_not_bound(lab: Fabric, node: Node) -> None:
    from deltaplane.forwarding import NodeForwarding

    new = "192.168.0.222"
    web = service(
        entry(FrontendKind.NODE_PORT, (4, "", 6, 30080), lab.pods),
        entry(FrontendKind.EXTERNAL_IP, (4, new, 6, 80), lab.pods),
    )
    with dataplane(node.space) as made:
        made.apply([web], NodeForwarding(match_all_families=(4,)), complete=True)
        assert {virtual.address for virtual in made.driver.state.virtuals if virtual.port == 30080} >= {
            packed(node.v4[0])
        }
        run(node.space, "ip", "addr", "add", f"{new}/24", "dev", "eth0")
        try:
            assert not made.drifted()
            assert made.pending()
            made.apply([])
            assert f"{new}:30080" in run(node.space, "ipvsadm", "-Ln")
            assert new not in run(node.space, "ip", "addr", "show", "dev", DEVICE)
        finally:
            run(node.space, "ip", "addr", "del", f"{new}/24", "dev", "eth0")
