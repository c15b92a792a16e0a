"""kube-proxy on a node of the fabric: the reference to compare with. Called by tests and the benchmark."""

from __future__ import annotations

from pathlib import Path

from tools.lab import parts
from tools.lab.fabric import CLUSTER_CIDRS, Node
from tools.lab.process import Process


def start(node: Node, kubeconfig: Path, folder: Path, mode: str = "nftables", *flags: str) -> Process:
    """Starts it and returns at once; it waits up to 1 s between two syncs, so give it 2.5 s to settle.

    `mode`: nftables, iptables or ipvs; `flags`: more of its own.
    """
    command: list[str | Path] = [
        parts.find("kube-proxy"),
        f"--kubeconfig={kubeconfig}",
        f"--hostname-override={node.name}",
        f"--proxy-mode={mode}",
        f"--cluster-cidr={','.join(CLUSTER_CIDRS)}",
        # The sysctls behind these belong to the machine, not to a namespace.
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        *flags,
    ]
    return Process(f"kube-proxy-{node.name}", command, folder / f"kube-proxy-{node.name}.log", node.space)
