"""Deltaplane on the cluster the way docs/operating.md says: `kubectl apply -k` of an overlay."""

from __future__ import annotations

from pathlib import Path

from tools.lab.cluster import pods
from tools.lab.cluster.cluster import Cluster
from tools.lab.manifests import Object

OVERLAYS = Path(__file__).parent / "overlays"
NAMESPACE = "deltaplane-system"
AGENTS, REPLICAS = "deltaplane-agent", "deltaplane-controlplane"


class Deltaplane:
    """`apply` installs it or changes its mode; `delete` is the way back."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.overlay = ""

    def apply(self, overlay: str) -> None:
        """Returns when every agent and replica is ready."""
        self.overlay = overlay
        self.cluster.kubectl("apply", "-k", str(OVERLAYS / overlay))
        self.rolled()

    def rolled(self) -> None:
        """Waits for the rollouts under way."""
        for workload in self.workloads():
            self.cluster.kubectl("-n", NAMESPACE, "rollout", "status", workload, "--timeout=300s")

    def restart(self, name: str) -> None:
        """`kubectl rollout restart` of the agents or the replicas, to its end."""
        workload = next(each for each in self.workloads() if each.endswith(name))
        self.cluster.kubectl("-n", NAMESPACE, "rollout", "restart", workload)
        self.rolled()

    def workloads(self) -> list[str]:
        """As kubectl names them: kind/name."""
        found = self.cluster.kubectl("-n", NAMESPACE, "get", "deployments,daemonsets", "-o", "name")
        return sorted(found.split())

    def pods(self, name: str) -> list[Object]:
        """The ready ones of agents or replicas."""
        return pods.running(self.cluster, f"app.kubernetes.io/name={name}", NAMESPACE)

    def logs(self, name: str) -> str:
        """What they said."""
        return self.cluster.kubectl("-n", NAMESPACE, "logs", "-l", f"app.kubernetes.io/name={name}", "--tail=-1")

    def delete(self) -> None:
        """`kubectl delete -k`; returns when the namespace is gone, with every Pod."""
        self.cluster.kubectl("delete", "-k", str(OVERLAYS / self.overlay), "--ignore-not-found", "--timeout=180s")
        self.overlay = ""
