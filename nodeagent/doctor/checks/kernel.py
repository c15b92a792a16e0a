"""The kernel, its settings, and the programs that write rules."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from nodeagent.dataplane.modes.choice import ORDER
from nodeagent.doctor.facts import Finding, Machine, Wanted, act, know
from nodeagent.node import sysctl

IPTABLES = ("iptables", "ipvs")  # modes that run iptables-restore
NEARLY_FULL = 0.9
LEAST = (1, 8, 3)  # iptables-nft before lost and doubled rules of others (kubernetes/kubernetes#71305)


def unread(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    for line in machine.unread:
        yield act("unread", f"not looked at: {line}", "run the doctor as root in the host's network namespace")


def mode(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    reason = machine.modes.get(wanted.mode, "")
    if reason:
        works = ", ".join(name for name in ORDER if not machine.modes.get(name, ""))
        do = f"choose another --proxy-mode; here work: {works or 'none'}"
        yield act("mode", f"mode {wanted.mode} does not work on this kernel ({machine.release}): {reason}", do)


def forwarding(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    ranges = wanted.ours.cluster_cidr
    names = [("ipv4/ip_forward", "." in ranges or not ranges), ("ipv6/conf/all/forwarding", ":" in ranges)]
    for name, needed in names:
        if needed and machine.sysctls.get(name) == 0:
            dotted = f"net.{name.replace('/', '.')}"
            yield act("forwarding", f"{dotted} is 0: this node forwards nothing", f"sysctl -w {dotted}=1, and keep it")


def bridges(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    names = [f"bridge/bridge-nf-call-{each}" for each in ("iptables", "ip6tables")]
    off = [name for name in names if not machine.sysctls.get(name)]
    if not machine.bridge_ports or not off or wanted.mode == "userspace":
        return
    settings = " ".join(f"net.{name.replace('/', '.')}=1" for name in off)
    port = min(machine.bridge_ports)
    yield act(
        "bridges",
        f"{port} is a port of a bridge, and what is bridged passes by the rules: a pod gets no answer from an endpoint "
        "on its own bridge",
        f"modprobe br_netfilter; sysctl -w {settings}, and keep both; nothing where no pods are on bridges",
    )


def conntrack(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    most = sysctl.conntrack_max(wanted.ours.conntrack, machine.cores)
    now = machine.sysctls.get("netfilter/nf_conntrack_max")
    if now is None and machine.release:
        yield know("conntrack", "connection tracking is not loaded", "nothing: the agent has the kernel load it")
    elif most and now is not None and now > most:
        yield know(
            "conntrack", f"net.netfilter.nf_conntrack_max goes from {now} down to {most}, by conntrack.maxPerCore",
            "raise maxPerCore or min, or set maxPerCore to 0 to leave the kernel's value",
        )  # fmt: skip


def tracked(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """A full table drops packets of new connections before any rule of a proxy sees them."""
    now, count = (machine.sysctls.get(f"netfilter/nf_conntrack_{name}") for name in ("max", "count"))
    if not now or count is None or count < now * NEARLY_FULL:
        return
    most = sysctl.conntrack_max(wanted.ours.conntrack, machine.cores)
    raised = f"nothing: the agent raises it to {most}"
    yield act(
        "conntrack-full",
        f"{count} of {now} entries of connection tracking are used: when it is full, the kernel drops new connections",
        raised if most > now else "find who holds so many (conntrack -L), or raise conntrack.maxPerCore",
    )


def loopback(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    routed = machine.sysctls.get("ipv4/conf/all/route_localnet") == 1
    if wanted.mode == "iptables":
        return
    if wanted.before == "iptables" and wanted.theirs and wanted.theirs.iptables.localhost_node_ports:
        yield know(
            "loopback", f"node ports do not answer on 127.0.0.1 in mode {wanted.mode}; kube-proxy's do now",
            "have local clients (a registry at localhost:PORT) use the node's address, or take --proxy-mode=iptables",
        )  # fmt: skip
    if routed:
        yield know(
            "route-localnet", "net.ipv4.conf.all.route_localnet is 1, which kube-proxy set and nobody sets back",
            "sysctl -w net.ipv4.conf.all.route_localnet=0 after the move, unless something else on the node needs it",
        )  # fmt: skip


def versions(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    if wanted.mode not in IPTABLES:
        return
    if not machine.plain and not machine.versions.get("iptables-nft") and not machine.versions.get("iptables-legacy"):
        yield act("iptables", f"mode {wanted.mode} needs iptables-restore, which is not here", "install iptables")
    found = machine.versions.get("iptables-nft", "")
    if found and _number(found) < LEAST:
        least = ".".join(map(str, LEAST))
        yield act(
            "iptables",
            f"iptables-nft is {found}, which loses rules of others",
            f"install {least} or newer, or take nftables",
        )


def flavours(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """Rules of both flavours: each program shows one of them, and the kernel goes by both."""
    used = [name for name in machine.iptables if any(map(_has_rules, machine.iptables[name].values()))]
    services = [name for name in used if _services(machine, name)]
    if "legacy" in services and wanted.mode not in IPTABLES:
        yield act(
            "flavours",
            "kube-proxy's rules are of iptables-legacy, and an agent in nftables mode has no right to remove those",
            "run `kube-proxy --cleanup` on the node once its agent is ready (docs/operating.md), or take the component "
            "iptables",
        )
    elif len(used) == 2:
        yield know("flavours", "both flavours of iptables have rules here; `iptables-save` shows only one of them")


def _has_rules(table: Mapping[str, tuple[str, ...]]) -> bool:
    return any(table.values())


def _services(machine: Machine, flavour: str) -> bool:
    return any(name.startswith(("KUBE-SVC-", "KUBE-SERVICES")) for name in machine.chains("nat", flavour))


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


CHECKS = (unread, mode, forwarding, bridges, conntrack, tracked, loopback, versions, flavours)
