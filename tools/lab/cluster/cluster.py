"""The cluster: up from nothing, down without a trace. Called by tests/cluster and `python -m tools.cluster`.

The network is the fabric's: two nodes, a client outside, the API server's host; containers get their addresses from
CNI. There is no Service proxy until the caller starts one (`tools.lab.kubeproxy`) or installs one.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.lab import fabric as fabrics
from tools.lab import parts
from tools.lab.cluster import cgroups, images, leftovers, runs
from tools.lab.cluster.controlplane import ControlPlane
from tools.lab.cluster.node import Node
from tools.lab.cluster.runs import Run
from tools.lab.fabric import Fabric, Topology
from tools.lab.process import ProcessFailed

NODES = 2
_INSTALLED = ("containerd", "ctr", "runc", "nsenter", "unshare", "etcd", "openssl")
_BUILT = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "coredns", "agnhost")


def unavailable() -> str:
    """Why no cluster can run here; "" where one can. A program that is missing is named with its package."""
    if os.geteuid() != 0:
        return "network namespaces and containers need root"
    try:
        for name in _INSTALLED:
            parts.installed(name)
        for name in _BUILT:
            parts.find(name)
    except parts.PartMissing as missing:
        return str(missing)
    if not Path("/usr/lib/cni/bridge").exists():
        return "CNI plugins are not installed here (Debian: apt-get install containernetworking-plugins)"
    return cgroups.lacking()


class Cluster:
    """Made by `running`."""

    def __init__(self, run: Run, fabric: Fabric, archives: Sequence[Path], without: Sequence[str] = ()) -> None:
        self.run, self.fabric = run, fabric
        names = [node.name for node in fabric.nodes]
        self.controlplane = ControlPlane(fabric.apiserver, run.folder / "controlplane", names, without)
        self.api = self.controlplane.api
        self._archives = archives
        self.nodes: list[Node] = []

    def start(self) -> None:
        """Returns when both nodes are Ready."""
        self.controlplane.start()
        for place in self.fabric.nodes:
            folder, config = self.run.folder / place.name, self.api.node_kubeconfig(place.name)
            node = Node(place, folder, self.run.name, config, self._archives)
            self.nodes.append(node)
            node.start()
        self.wait(self._ready, "nodes Ready", 600)
        for place in self.fabric.nodes:
            self._describe(place)

    def _ready(self) -> bool:
        found = self.api.admin.call("GET", "/api/v1/nodes")["items"]
        conditions = {(node["metadata"]["name"], c["type"]): c["status"] for node in found for c in conditions_of(node)}
        return all(conditions.get((node.name, "Ready")) == "True" for node in self.nodes)

    def _describe(self, place: fabrics.Node) -> None:
        """What an installer says of a node: its Pods' ranges, and that it is of the control plane."""
        labels = {"node-role.kubernetes.io/control-plane": ""}
        ranges = {"podCIDR": place.pod_cidrs[0], "podCIDRs": list(place.pod_cidrs)}
        self.api.admin.patch("Node", place.name, {"metadata": {"labels": labels}, "spec": ranges})

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def wait(self, holds: Callable[[], object], what: str, timeout: float = 120.0) -> None:
        """Raises `ProcessFailed` with the nodes' logs when a node ends meanwhile or time is up."""
        deadline = time.monotonic() + timeout
        while not holds():
            ended = [node for node in self.nodes if node.process and not node.process.running]
            if ended or time.monotonic() > deadline:
                said = "\n".join(node.complaint() for node in ended or self.nodes)
                raise ProcessFailed(f"not within {timeout:g} s: {what}\n{said}")
            time.sleep(0.1)

    def kubectl(self, *arguments: str, stdin: str | None = None, check: bool = True) -> str:
        """The output of kubectl as administrator. Raises RuntimeError with its complaint."""
        return self.api.kubectl(*arguments, stdin=stdin, check=check, timeout=600)

    def close(self) -> None:
        """Ends everything at once: nothing here is worth a polite end."""
        for node in self.nodes:
            node.kill()
        self.controlplane.close()


def conditions_of(thing: dict[str, dict[str, list[dict[str, str]]]]) -> list[dict[str, str]]:
    """The conditions of an object's status; none where it has no status yet."""
    return thing.get("status", {}).get("conditions", [])


@contextmanager
def running(archives: Sequence[Path] = (), without: Sequence[str] = ()) -> Iterator[Cluster]:
    """A cluster meanwhile, whose containerd has the images of `images` and `archives`. Main thread only.

    `without`: controllers that kube-controller-manager shall not run. Raises `ProcessFailed` with logs where it does
    not come up. What earlier runs left is removed first.
    """
    leftovers.removed()
    every = [images.made(), *archives]
    topology = Topology(NODES, servers=0, clients=0, outside=1, bridge_netfilter=True)
    run = runs.opened()
    try:
        with fabrics.running(topology) as fabric, contextlib.closing(Cluster(run, fabric, every, without)) as cluster:
            cluster.start()
            yield cluster
    finally:
        leftovers.remove_folder(run)
        run.close()
