"""What leans on kube-proxy's ways: NodeLocal DNSCache, host ports, MetalLB, the kubelet's chains, marks of packets."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeagent.doctor.facts import Finding, Machine, Wanted, act, know

_ADDRESS = re.compile(r"(?:^| )-d (\S+?)(?:/32|/128)?(?: |$)")
LINK_LOCAL = ("169.254.", "fe80:")
DNS_LINK = "nodelocaldns"
IPTABLES = ("iptables", "ipvs")


def dns_cache(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """It answers at a link-local address, often at the cluster DNS's ClusterIP too, whose packets it has not "
    "tracked."""
    untracked = {found[1] for rule in machine.rules("raw") if _untracks_dns(rule) if (found := _ADDRESS.search(rule))}
    if DNS_LINK not in machine.links:
        if untracked:
            yield act(
                "dns-cache", f"NodeLocal DNSCache is gone, and its NOTRACK rules for {_all(untracked)} stay: "
                f"DNS is not translated",
                "start it again, or remove these rules of the table raw (iptables-save -t raw)",
            )  # fmt: skip
        return
    cluster_ips = {address for address in untracked if not address.startswith(LINK_LOCAL)}
    if cluster_ips and wanted.mode == "ipvs":
        yield act(
            "dns-cache", f"NodeLocal DNSCache answers at the ClusterIP {_all(cluster_ips)}, which ipvs mode has "
            f"on kube-ipvs0",
            "have it listen at its link-local address alone (-localip), and pods ask there (kubelet --cluster-dns)",
        )  # fmt: skip
    elif cluster_ips:
        yield know(
            "dns-cache", f"NodeLocal DNSCache answers at {_all(cluster_ips)} on this node: these packets are "
            f"not tracked, so they "
            "pass by the agent's rules as by kube-proxy's", "nothing",
        )  # fmt: skip
    else:
        yield know(
            "dns-cache", "NodeLocal DNSCache answers at a link-local address; it reaches the cluster's DNS "
            "through a Service",
            "nothing: pods that ask it go on doing so",
        )  # fmt: skip


def _untracks_dns(rule: str) -> bool:
    return ("-j NOTRACK" in rule or "-j CT --notrack" in rule) and "--dport 53" in rule


def host_ports(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    here = "CNI-HOSTPORT-DNAT" in machine.chains("nat") or any("cni_hostport" in name for name in machine.tables)
    if not here:
        return
    if wanted.mode == "ipvs" and wanted.before != "ipvs":
        yield act(
            "host-ports", "pods have host ports here (portmap), and in ipvs mode every ClusterIP is an address "
            "of the node: a "
            "ClusterIP with such a port leads to that pod", "take another mode, or a CNI plugin portmap with "
            "conditionsV4/V6",
        )  # fmt: skip
    else:
        yield know(
            "host-ports",
            "pods have host ports here (CNI's portmap); its rules stay, and are not the agent's",
            "nothing",
        )
    if _bit(wanted) == 13:
        yield act(
            "marks", "portmap marks packets with 0x2000, which masqueradeBit 13 is too", "choose another masqueradeBit"
        )


def marks(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    bit = _bit(wanted)
    if bit == 15 and ("KUBE-MARK-DROP" in machine.chains("nat") or "KUBE-FIREWALL" in machine.chains("filter")):
        yield act(
            "marks", "the kubelet drops packets with the mark 0x8000, which masqueradeBit 15 is", "choose another one"
        )
    if bit >= 16 and any(name.startswith("cali-") for name in machine.chains("filter")):
        yield act(
            "marks", f"Calico marks packets with the bits 16 to 31, and masqueradeBit is {bit}",
            "choose a lower masqueradeBit, or another iptablesMarkMask in Calico",
        )  # fmt: skip


def _bit(wanted: Wanted) -> int:
    section = wanted.ours.nftables if wanted.mode == "nftables" else wanted.ours.iptables
    return section.masquerade_bit


def load_balancers(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """Programs that answer ARP for Services' addresses must be the only ones, and in ipvs mode the node answers too."""
    speaker = machine.runs("speaker", "kube-vip", "purelb")
    strict = wanted.ours.ipvs.strict_arp
    if speaker is not None and wanted.mode == "ipvs" and not strict:
        yield act(
            "strict-arp", f"{speaker.program} (MetalLB, kube-vip) answers ARP for Services, and in ipvs mode "
            f"every node does",
            "set ipvs.strictARP: true (--ipvs-strict-arp)",
        )  # fmt: skip
    arp = (machine.sysctls.get("ipv4/conf/all/arp_ignore"), machine.sysctls.get("ipv4/conf/all/arp_announce"))
    if wanted.before == "ipvs" and wanted.mode != "ipvs" and arp == (1, 2):
        yield know(
            "strict-arp", "strictARP left net.ipv4.conf.all.arp_ignore=1 and arp_announce=2, which this mode "
            "does not need",
            "set both to 0 after the move, unless something else on the node needs them",
        )  # fmt: skip


def left_ipvs(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    if wanted.before == "ipvs" and wanted.mode != "ipvs":
        yield know(
            "ipvs", "ClusterIPs are no addresses of the node any more: a ping of one gets no answer, and "
            "connections through IPVS "
            "end when its virtual servers go", "move the node in a quiet hour or drain it; --drain-period says "
            "how long they may go on",
        )  # fmt: skip


def kubelet(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    found = sorted({"KUBE-FIREWALL", "KUBE-KUBELET-CANARY", "KUBE-IPTABLES-HINT"} & _every(machine))
    if found:
        yield know(
            "kubelet", f"{', '.join(found)} are the kubelet's chains", "nothing: they stay, and are not leftovers"
        )


def _every(machine: Machine) -> set[str]:
    return {name for table in ("filter", "nat", "mangle") for name in machine.chains(table)}


def pods_unknown(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    ours = wanted.ours
    if wanted.theirs is not None and ours.detect_local_mode == "ClusterCIDR" and not ours.cluster_cidr:
        yield know(
            "cluster-cidr", "no clusterCIDR: what does not come from pods is not masqueraded on its way to "
            "ClusterIPs, as now",
            "name the pods' ranges by clusterCIDR, or detectLocalMode",
        )  # fmt: skip


def _all(names: set[str]) -> str:
    return ", ".join(sorted(names))


CHECKS = (dns_cache, host_ports, marks, load_balancers, left_ipvs, kubelet, pods_unknown)
