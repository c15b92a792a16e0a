"""What the doctor finds on a node: each check with the machine that has it, and one that has not."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from nodeagent.config.defaults import completed, filled
from nodeagent.config.schema import Iptables, Ipvs, KubeProxyConfiguration, Nftables
from nodeagent.doctor import Machine, Severity, Wanted, findings
from nodeagent.doctor.facts import Foreign, Hook, Process

GOOD = Machine(
    release="6.1.0",
    sysctls={
        "ipv4/ip_forward": 1,
        "ipv6/conf/all/forwarding": 1,
        "netfilter/nf_conntrack_max": 1000,
        "netfilter/nf_conntrack_count": 899,
    },
    versions={"iptables-nft": "1.8.9", "iptables-legacy": "1.8.9"},
    plain="nft",
)


def config(mode: str, **more: Any) -> KubeProxyConfiguration:
    return completed(filled(KubeProxyConfiguration(mode=mode, cluster_cidr="10.0.0.0/8", **more)))


def wanted(mode: str = "nftables", before: str = "", cluster: dict[str, str] | None = None, **more: Any) -> Wanted:
    theirs = config(before) if before else None
    return Wanted(mode, config(mode, **more), theirs, cluster or {})


def machine(**more: Any) -> Machine:
    return structs.replace(GOOD, **more)


def runs(*words: str) -> Machine:
    return machine(processes=(Process(7, words),))


def rules(table: str, chain: str, *lines: str, flavour: str = "nft") -> dict[str, Any]:
    return {flavour: {table: {chain: lines}}}


def found(of: Machine, want: Wanted) -> dict[str, Severity]:
    return {each.id: each.severity for each in reversed(findings(of, want))}


ACT, KNOW = Severity.ACT, Severity.KNOW
FORWARD = (Hook("ip", "filter", "FORWARD", "forward"),)
EDGE = tuple(Foreign(f"inet edge{number}", "forwarded", "forward", ("drops",)) for number in range(14))
NOTRACK = "-d {}/32 -p udp -m udp --dport 53 -j NOTRACK"
FIREWALLD = ("/usr/bin/python3", "-s", "/usr/sbin/firewalld", "--nofork")


@pytest.mark.parametrize("mode", ["nftables", "iptables", "userspace"])
def test_a_node_without_anything_special_has_no_finding(mode: str) -> None:
    assert found(GOOD, wanted(mode)) == {}


@pytest.mark.parametrize(
    ("name", "severity", "of", "want"),
    [
        ("unread", ACT, machine(unread=("iptables-nft nat: Permission denied",)), wanted()),
        ("mode", ACT, machine(modes={"nftables": "no nf_tables", "iptables": ""}), wanted()),
        ("forwarding", ACT, machine(sysctls={**GOOD.sysctls, "ipv4/ip_forward": 0}), wanted()),
        ("bridges", ACT, machine(bridge_ports=frozenset({"veth1"})), wanted()),
        ("conntrack", KNOW, machine(sysctls={**GOOD.sysctls, "netfilter/nf_conntrack_max": 1 << 21}), wanted()),
        ("conntrack-full", ACT, machine(sysctls={**GOOD.sysctls, "netfilter/nf_conntrack_count": 950}), wanted()),
        ("loopback", KNOW, GOOD, wanted(before="iptables")),
        ("route-localnet", KNOW, machine(sysctls={**GOOD.sysctls, "ipv4/conf/all/route_localnet": 1}), wanted()),
        ("iptables", ACT, machine(versions={"iptables-nft": "1.8.2"}), wanted("iptables")),
        ("iptables", ACT, machine(versions={}, plain=""), wanted("iptables")),
        ("flavours", ACT, machine(iptables=rules("nat", "KUBE-SERVICES", "-j X", flavour="legacy")), wanted()),
        ("flavours", KNOW, machine(iptables=rules("nat", "A", "-j X") | rules("nat", "B", "-j X", flavour="legacy")),
         wanted()),
        ("forward-drop", ACT, machine(hooks=FORWARD), wanted(before="iptables")),
        ("forward-drop", KNOW, machine(hooks=FORWARD), wanted(before="nftables")),
        ("input-drop", KNOW, machine(hooks=(Hook("inet", "fw", "in", "input"),)), wanted()),
        ("foreign-chains", KNOW, machine(foreign=EDGE), wanted()),
        ("firewalld", KNOW, runs(*FIREWALLD), wanted()),
        ("firewalld", ACT, runs(*FIREWALLD), wanted("iptables")),
        ("firewalld", ACT, structs.replace(
            runs(*FIREWALLD), files={"/etc/firewalld/firewalld.conf": "StrictForwardPorts=yes"}), wanted()),
        ("ufw", ACT, machine(files={"/etc/ufw/ufw.conf": "ENABLED=yes\n",
                                    "/etc/default/ufw": 'DEFAULT_FORWARD_POLICY="DROP"\n'}), wanted()),
        ("cilium", ACT, GOOD, wanted(cluster={"cilium/kube-proxy-replacement": "true"})),
        ("cilium", KNOW, runs("/usr/bin/cilium-agent"), wanted()),
        ("calico-ebpf", ACT, machine(links=frozenset({"bpfin.cali"})), wanted()),
        ("kube-router", ACT, runs("/usr/local/bin/kube-router", "--run-router=true"), wanted()),
        ("antrea", KNOW, runs("antrea-agent"), wanted()),
        ("ovn", ACT, runs("/usr/bin/ovnkube", "--init-node"), wanted()),
        ("embedded", ACT, runs("/usr/local/bin/k3s", "server"), wanted()),
        ("leftovers", KNOW, machine(tables=frozenset({"ip kube-proxy"})), wanted(before="nftables")),
        ("leftovers", KNOW, machine(links=frozenset({"kube-ipvs0"})), wanted()),
        ("ports", ACT, machine(listening={10256: "exporter"}), wanted()),
        ("ports", ACT, machine(listening={10256: "deltaplane controlplane"}), wanted()),
        ("dns-cache", KNOW, machine(links=frozenset({"nodelocaldns"})), wanted()),
        ("dns-cache", ACT, machine(iptables=rules("raw", "PREROUTING", NOTRACK.format("169.254.20.10"))), wanted()),
        ("dns-cache", ACT, machine(links=frozenset({"nodelocaldns"}),
                                   iptables=rules("raw", "PREROUTING", NOTRACK.format("10.96.0.10"))), wanted("ipvs")),
        ("host-ports", KNOW, machine(iptables=rules("nat", "CNI-HOSTPORT-DNAT")), wanted()),
        ("host-ports", ACT, machine(iptables=rules("nat", "CNI-HOSTPORT-DNAT")), wanted("ipvs", "iptables")),
        ("marks", ACT, machine(iptables=rules("nat", "CNI-HOSTPORT-DNAT")),
         wanted(nftables=Nftables(masquerade_bit=13))),
        ("marks", ACT, machine(iptables=rules("filter", "KUBE-FIREWALL")),
         wanted("iptables", iptables=Iptables(masquerade_bit=15))),
        ("strict-arp", ACT, runs("/speaker"), wanted("ipvs")),
        ("strict-arp", KNOW, machine(sysctls={
            **GOOD.sysctls, "ipv4/conf/all/arp_ignore": 1, "ipv4/conf/all/arp_announce": 2}), wanted(before="ipvs")),
        ("ipvs", KNOW, GOOD, wanted(before="ipvs")),
        ("kubelet", KNOW, machine(iptables=rules("mangle", "KUBE-KUBELET-CANARY")), wanted()),
        ("cluster-cidr", KNOW, GOOD, structs.replace(
            wanted(before="nftables"), ours=structs.replace(config("nftables"), cluster_cidr=""))),
    ],
)  # fmt: skip
def test_a_finding_is_there_with_its_cause(name: str, severity: Severity, of: Machine, want: Wanted) -> None:
    assert found(of, want).get(name) is severity


@pytest.mark.parametrize(
    ("name", "of", "want"),
    [
        ("bridges", machine(bridge_ports=frozenset({"veth1"}), sysctls={
            **GOOD.sysctls, "bridge/bridge-nf-call-iptables": 1, "bridge/bridge-nf-call-ip6tables": 1}), wanted()),
        ("forward-drop", machine(hooks=FORWARD), wanted("iptables", "iptables")),
        ("kube-router", runs("kube-router", "--run-service-proxy=false"), wanted()),
        ("embedded", runs("k3s", "server", "--disable-kube-proxy"), wanted()),
        ("ports", machine(listening={10256: "kube-proxy", 10249: "kube-proxy"}), wanted()),
        ("ports", machine(listening={10256: "deltaplane agent", 10258: "deltaplane agent"}), wanted()),
        ("leftovers", structs.replace(runs("kube-proxy"), tables=frozenset({"ip kube-proxy"})), wanted()),
        ("strict-arp", runs("/speaker"), wanted("ipvs", ipvs=Ipvs(strict_arp=True))),
        ("cilium", GOOD, wanted(cluster={"cilium/kube-proxy-replacement": "false"})),
        ("flavours", machine(iptables=rules("nat", "A") | rules("nat", "B", flavour="legacy")), wanted()),
        ("ufw", machine(files={"/etc/ufw/ufw.conf": "ENABLED=no\n"}), wanted()),
    ],
)  # fmt: skip
def test_it_is_not_there_where_the_cause_is_dealt_with(name: str, of: Machine, want: Wanted) -> None:
    assert name not in found(of, want)


def test_what_needs_somebody_comes_first() -> None:
    both = machine(iptables=rules("mangle", "KUBE-KUBELET-CANARY"), unread=("x",))

    assert [each.severity for each in findings(both, wanted())] == [ACT, KNOW]


def test_every_finding_that_needs_somebody_says_what_to_do() -> None:
    worst = machine(hooks=FORWARD, unread=("x",), links=frozenset({"bpfin.cali"}), listening={10258: ""})

    assert all(each.do for each in findings(worst, wanted(before="ipvs")) if each.severity is ACT)


def test_chains_of_others_are_named_with_what_they_do_and_what_to_do_next() -> None:
    (one,) = (each for each in findings(machine(foreign=EDGE), wanted()) if each.id == "foreign-chains")

    assert "inet edge0 forwarded (forward: drops); " in one.what
    assert one.what.endswith(" and 2 more")
    assert "deltaplane trace" in one.do
