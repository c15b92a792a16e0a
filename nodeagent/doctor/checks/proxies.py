"""Who serves Services on the node: kube-proxy, what is left of one, and programs that do it in its place."""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.doctor.facts import Finding, Machine, Wanted, act, know

EMBEDDED = {
    "k3s": "--disable-kube-proxy for every server and agent",
    "rke2": "disable-kube-proxy: true in /etc/rancher/rke2/config.yaml",
}
"""Programs that run kube-proxy inside of themselves, and what switches it off."""
OWN_HOLDERS = ("kube-proxy", "deltaplane agent")
OWN_PORTS = {10258: "the agent's probes (--health-listen)"}


def replaced(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """Dataplanes that translate Services themselves, before any rule of netfilter sees the packet."""
    cilium = wanted.cluster.get("cilium/kube-proxy-replacement", "")
    if cilium.lower() in ("true", "strict", "partial", "probe"):
        yield act(
            "cilium", f"Cilium serves Services itself (kube-proxy-replacement: {cilium}): Deltaplane's rules "
            f"would see nothing",
            "set kubeProxyReplacement=false in Cilium first, or keep Cilium's",
        )  # fmt: skip
    elif machine.runs("cilium-agent") and not cilium:
        yield know("cilium", "Cilium runs here", "see that `cilium-dbg status` says KubeProxyReplacement: False")
    if any(name.startswith(("bpfin.cali", "bpfout.cali")) for name in machine.links):
        yield act(
            "calico-ebpf", "Calico's eBPF dataplane serves Services itself: Deltaplane's rules would see nothing",
            "set bpfEnabled: false in the FelixConfiguration first, or keep Calico's",
        )  # fmt: skip


def others(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    router = machine.runs("kube-router")
    if router is not None and "--run-service-proxy=false" not in router.words:
        yield act("kube-router", "kube-router serves Services itself", "run it with --run-service-proxy=false")
    if machine.runs("antrea-agent"):
        yield know(
            "antrea",
            "Antrea runs here, and serves Services of pods itself (AntreaProxy)",
            "switch AntreaProxy off first",
        )
    if machine.runs("ovnkube"):
        yield act("ovn", "OVN-Kubernetes serves Services itself, in Open vSwitch", "keep it: it cannot be switched off")


def embedded(machine: Machine, wanted: Wanted) -> Iterator[Finding]:  # noqa: ARG001 - as every check
    for program, switch in EMBEDDED.items():
        found = machine.runs(program, f"{program}-server", f"{program}-agent")
        if found is not None and not any("disable-kube-proxy" in word for word in found.words):
            yield act("embedded", f"{program} may run kube-proxy inside of itself", f"switch it off: {switch}")


def leftovers(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    """Rules of a kube-proxy that does not run any more, or not in this mode."""
    if machine.runs("kube-proxy") is not None:
        return
    found = [name for name in sorted(machine.tables) if name.endswith(" kube-proxy")]
    found += [f"iptables-{each} chains KUBE-SVC-..." for each in machine.iptables if _has_services(machine, each)]
    found += ["kube-ipvs0"] if "kube-ipvs0" in machine.links else []
    if found and wanted.before:
        yield know(
            "leftovers", f"no kube-proxy runs here, and it left rules: {', '.join(found)}",
            "nothing: they serve until the agent's are in, and the agent then removes them",
        )  # fmt: skip
    elif found:
        yield know(
            "leftovers",
            f"kube-proxy, or an agent in its modes, left rules: {', '.join(found)}",
            "the agent removes them",
        )


def _has_services(machine: Machine, flavour: str) -> bool:
    return any(name.startswith("KUBE-SVC-") for name in machine.chains("nat", flavour))


def ports(machine: Machine, wanted: Wanted) -> Iterator[Finding]:
    ours = {_port(wanted.ours.healthz_bind_address): "/healthz", _port(wanted.ours.metrics_bind_address): "/metrics"}
    for port, what in (ours | OWN_PORTS).items():
        holder = machine.listening.get(port)
        if holder is None or port == 0 or holder in OWN_HOLDERS:
            continue
        who = f"by {holder}" if holder else "by a program that is not seen from here"
        itself = "" if holder else "nothing where that is the agent itself, in its pod; else "
        yield act(
            "ports", f"port {port}, for {what}, is taken {who}",
            f"{itself}end that program, or give the agent another port: --healthz-bind-address, "
            "--metrics-bind-address, --health-listen",
        )  # fmt: skip


def _port(address: str) -> int:
    text = address.rpartition(":")[2]
    return int(text) if text.isdecimal() else 0


CHECKS = (replaced, others, embedded, leftovers, ports)
