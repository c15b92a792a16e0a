"""kube-controller-manager beside the API server: the reference for what is made of Services and Pods. For tests."""

from __future__ import annotations

from pathlib import Path

from tools.lab import parts
from tools.lab.fabric import Host
from tools.lab.process import Process

ENDPOINTS = ("endpointslice-controller", "endpoints-controller")
COLLECTOR = "garbage-collector-controller"


def start(host: Host, kubeconfig: Path, folder: Path, *names: str) -> Process:
    """Starts it with these controllers alone, and returns at once. Its client is not throttled."""
    command: list[str | Path] = [
        parts.find("kube-controller-manager"),
        f"--kubeconfig={kubeconfig}",
        f"--controllers={','.join(names)}",
        "--leader-elect=false",
        "--kube-api-qps=1000",
        "--kube-api-burst=2000",
        "--concurrent-endpoint-syncs=8",
        "--concurrent-service-endpoint-syncs=8",
        f"--cert-dir={folder}",
        "--secure-port=0",
    ]
    return Process("kube-controller-manager", command, folder / "kube-controller-manager.log", host.space)
