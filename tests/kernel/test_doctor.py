"""`deltaplane doctor` on a real node: what other programs have put into its kernel, and that it leaves it as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.kernel.modes_support import listing
from tools.lab import netns
from tools.lab.deltaplane import COMMAND
from tools.lab.netns import Namespace
from tools.lab.rules import run

DNS = "-p udp -d 169.254.20.10 --dport 53 -j NOTRACK"
HOST_PORT = "-m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT"


@pytest.fixture
def node() -> Iterator[Namespace]:
    """Pods on a bridge, a firewall that drops, NodeLocal DNSCache, host ports, chains of kube-proxy and the kubelet."""
    space = netns.create("doctor")
    commands = [
        "ip link add pods type bridge", "ip link add veth1 type veth peer name veth2", "ip link set veth1 master pods",
        "ip link add nodelocaldns type bridge", "iptables-nft -t raw -N X", f"iptables-nft -t raw -A PREROUTING {DNS}",
        "iptables-nft -t nat -N KUBE-SVC-A", "iptables-nft -t filter -N KUBE-FORWARD",
        "iptables-nft -t mangle -N KUBE-KUBELET-CANARY", "iptables-nft -t nat -N CNI-HOSTPORT-DNAT",
        f"iptables-nft -t nat -A PREROUTING {HOST_PORT}", "iptables-nft -P FORWARD DROP",
        "iptables-nft -A FORWARD -j KUBE-FORWARD", "iptables-nft -A KUBE-FORWARD -m mark --mark 0x4000 -j ACCEPT",
        "nft add table inet firewalld",
        "nft add chain inet firewalld filter_INPUT { type filter hook input priority 10; policy drop; }",
        "iptables-legacy -A INPUT -p tcp --dport 50051 -j REJECT",
        "nft add table inet edgefilter", "nft add chain inet edgefilter judge { drop; }",
        "nft add chain inet edgefilter forwarded { type filter hook forward priority 10; }",
        "nft add rule inet edgefilter forwarded ip daddr vmap { 10.180.1.12 : jump judge, 10.180.1.13 : accept }",
        "nft add table ip web", "nft add chain ip web in { type nat hook prerouting priority -100; }",
        "nft add rule ip web in tcp dport 80 dnat to 10.180.1.1", "nft add table ip deltaplane",
        "nft add chain ip deltaplane filter { type filter hook forward priority 0; policy drop; }",
        "nft add table ip mild", "nft add chain ip mild in { type filter hook input priority 0; }",
        "nft add rule ip mild in counter accept",
    ]  # fmt: skip
    for command in commands:
        run(space, "sh", "-c", command.replace("{", "'{").replace("}", "}'"))
    space.sysctl({"ipv4/ip_forward": 0})
    yield space
    netns.delete(space)


def test_what_is_on_the_node_is_found_and_left_as_it_is(node: Namespace) -> None:
    before = listing(node)

    said = run(node, *COMMAND, "doctor", "--kube-proxy=none", "-o", "json", check=False)

    found = {each["id"]: each["severity"] for each in json.loads(said)["findings"]}
    wanted = {"forwarding": "act", "forward-drop": "act", "input-drop": "know", "firewalld": "know"}
    wanted |= {"dns-cache": "know", "host-ports": "know", "kubelet": "know", "leftovers": "know"}
    assert {name: severity for name, severity in found.items() if name in wanted} == wanted
    assert found.get("unread") is None
    foreign = next(each["what"] for each in json.loads(said)["findings"] if each["id"] == "foreign-chains")
    for chain in (
        "inet edgefilter forwarded (forward: drops)", "inet firewalld filter_INPUT (input: drops by policy)",
        "ip web in (prerouting: redirects)", "ip filter FORWARD (forward: drops by policy)",
        "iptables-legacy filter INPUT (input: rejects)",
    ):  # fmt: skip
        assert chain in foreign
    assert "deltaplane " not in foreign
    assert "mild" not in foreign
    assert listing(node) == before


def test_a_node_without_anything_has_nothing_to_act_on() -> None:
    empty = netns.create("empty")
    empty.sysctl({"ipv4/ip_forward": 1, "ipv6/conf/all/forwarding": 1})
    try:
        said = run(empty, *COMMAND, "doctor", "--kube-proxy=none", "-o", "json")
    finally:
        netns.delete(empty)

    assert [each["id"] for each in json.loads(said)["findings"] if each["severity"] == "act"] == []
