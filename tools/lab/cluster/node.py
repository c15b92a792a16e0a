"""A node of the cluster: containerd and a kubelet in one process tree, with the Pods. Called by `cluster`.

`node-init` beside this file makes the tree; here are its configuration files, its start and end, and how to run a
program inside. Sources: the kubelet's KubeletConfiguration (kubelet.config.k8s.io/v1beta1), containerd's config
version 2, CNI's bridge and host-local plugins.
"""

from __future__ import annotations

import ipaddress
import json
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from tools.lab import fabric, parts
from tools.lab.cluster import cgroups
from tools.lab.cluster.controlplane import DNS_ADDRESS, DNS_DOMAIN
from tools.lab.cluster.images import PAUSE
from tools.lab.process import Process

INIT = Path(__file__).with_name("node-init")
SOCKET = "/run/containerd/containerd.sock"
_CONTAINERD = f"""\
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
oom_score = 0
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs"]
[grpc]
  address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  restrict_oom_score_adj = true
  disable_apparmor = true
[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = "/usr/lib/cni"
  conf_dir = "/etc/cni/net.d"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
"""


class Node:
    """A node of the fabric with a kubelet. `images` are archives that its containerd shall have."""

    def __init__(self, place: fabric.Node, folder: Path, run: str, kubeconfig: Path, images: Sequence[Path]) -> None:
        self.place, self.name, self.folder = place, place.name, folder
        self.cgroup = f"{run}-{place.name}"
        self._kubeconfig, self._images = kubeconfig, images
        self._kubelet = parts.find("kubelet")
        self.process: Process | None = None

    def start(self) -> None:
        """Starts it and returns at once; whether it is Ready the API server knows."""
        self.folder.mkdir(parents=True)
        used = cgroups.make(self.cgroup)
        self._write("cgroups", "".join(f"{one.path} {one.options}\n" for one in used))
        self._write("containerd.toml", _CONTAINERD)
        self._write("cni.conflist", json.dumps(cni(self.place)))
        self._write("kubelet.yaml", yaml.safe_dump(kubelet_configuration(self.folder)))
        self._write("settings", self._settings())
        self.process = Process(self.name, [INIT, self.folder], self.folder / "node.log", self.place.space)

    def _write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)

    def _settings(self) -> str:
        addresses = f"{self.place.v4[0]},{self.place.v6[0]}"
        kubelet = [
            str(self._kubelet), f"--config={self.folder / 'kubelet.yaml'}", f"--kubeconfig={self._kubeconfig}",
            f"--node-ip={addresses}", f"--hostname-override={self.name}",
            f"--node-labels=topology.kubernetes.io/zone={self.place.zone}",
        ]  # fmt: skip
        plain = {"NAME": self.name, "CGROUP": self.cgroup, "MACHINE_ID": f"{self.place.number:032x}"}
        lists = {"IMAGES": [str(path) for path in self._images], "KUBELET": kubelet}
        lines = [f"{key}={shlex.quote(value)}" for key, value in plain.items()]
        return "\n".join([*lines, *(f"{key}=({shlex.join(words)})" for key, words in lists.items())]) + "\n"

    def run(self, *command: str, timeout: float = 120.0) -> str:
        """The output of a program that runs as the node's root does. Raises RuntimeError with its complaint."""
        inside = ["nsenter", f"--target={self._first()}", "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup"]
        done = subprocess.run([*inside, "--", *command], capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"{self.name}: {' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def _first(self) -> int:
        """The first process of the node's process namespace: the child of `unshare`."""
        if self.process is None:
            raise RuntimeError(f"{self.name} is not started")
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0])

    def complaint(self) -> str:
        """The ends of its logs."""
        texts = []
        for name in ("node.log", "containerd.log", "kubelet.log"):
            path = self.folder / name
            lines = path.read_text(errors="replace").splitlines()[-8:] if path.exists() else []
            texts.append(f"{self.name} {name}:\n" + "\n".join(lines))
        return "\n".join(texts)

    def kill(self) -> None:
        """As a loss of power: every process of the node ends at once, its containers too."""
        if self.process:
            self.process.kill()
        cgroups.remove(self.cgroup)


def cni(place: fabric.Node) -> dict[str, Any]:
    """Pods on the node's bridge, with an address of each of its ranges."""
    ranges = [[{"subnet": cidr, "rangeStart": str(ipaddress.ip_network(cidr)[10])}] for cidr in place.pod_cidrs]
    bridge = {
        "type": "bridge",
        "bridge": "pods",  # the fabric has made it
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]},
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [bridge]}


def kubelet_configuration(folder: Path) -> dict[str, Any]:
    """On this machine's terms: cgroup v1, no swap accounting, nobody but the API server's host near its port."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [DNS_ADDRESS],
        "clusterDomain": DNS_DOMAIN,
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "evictionHard": {"memory.available": "50Mi"},
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "makeIPTablesUtilChains": False,
        "oomScoreAdj": 0,
        "volumePluginDir": str(folder / "volume-plugins"),
    }
