"""What people have on the cluster while its proxy is installed, changed and rolled: an application and its clients."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tools.lab import client
from tools.lab.client import Knocking, knocking
from tools.lab.cluster import pods
from tools.lab.cluster.cluster import Cluster
from tools.lab.manifests import Object
from tools.lab.netns import Namespace


class Shop:
    """A Deployment `echo` behind a dual-stack NodePort Service, and a client Pod on each node."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.service: dict[str, Any] = {}

    def open(self) -> None:
        """Returns when every Pod is ready; that needs no proxy."""
        for thing in pods.echo():
            self.cluster.api.admin.apply(thing)
        for node in self.cluster.nodes:
            self.cluster.api.admin.apply(pods.client(node.name))
        self.cluster.kubectl("rollout", "status", "deployment/echo", "--timeout=180s")
        self.cluster.wait(lambda: len(self.clients()) == len(self.cluster.nodes), "client Pods ready")
        self.service = self.cluster.api.admin.get("Service", "echo")["spec"]

    def clients(self) -> list[Object]:
        """The client Pods that are ready."""
        return pods.running(self.cluster, "app=client")

    def names(self) -> set[str]:
        """The Pods behind the Service."""
        return {pod["metadata"]["name"] for pod in pods.running(self.cluster, "app=echo")}

    @property
    def node_port(self) -> int:
        return int(self.service["ports"][0]["nodePort"])

    def ways(self) -> Iterator[tuple[str, Namespace, tuple[str, int]]]:
        """Every way to the Service: its name, the namespace to start from, address and port."""
        for pod in self.clients():
            for address in self.service["clusterIPs"]:
                yield f"{pod['metadata']['name']} to {address}", pods.inside(pod), (address, 80)
        outside = self.cluster.fabric.outside[0].space
        for place in self.cluster.fabric.nodes:
            for family in (4, 6):
                yield f"outside to {place.name} IPv{family}", outside, (place.address(family), self.node_port)

    def reached(self, count: int = 60) -> dict[str, dict[str, int]]:
        """By way, how many of `count` connections which Pod answered, or which failure there was."""
        return {name: dict(client.many(space, *where, count)) for name, space, where in self.ways()}

    def served_by(self, wanted: set[str]) -> bool:
        """Whether each way leads to exactly these Pods."""
        return all(set(found) == wanted for found in self.reached().values())

    def looked_up(self, name: str) -> set[str]:
        """The addresses that a client Pod gets for a name, asking the cluster's DNS at its ClusterIP."""
        pod = self.clients()[0]["metadata"]["name"]
        said = self.cluster.kubectl("exec", pod, "--", "dig", "+short", "+search", name, "A", name, "AAAA")
        return set(said.split())

    @contextmanager
    def used(self, *, keep: bool = False) -> Iterator[dict[str, Knocking]]:
        """Meanwhile somebody connects over each way again and again (`keep`: goes on talking on one connection)."""
        with ExitStack() as open_ones:
            yield {
                name: open_ones.enter_context(knocking(space, *where, pause=0.02, keep=keep))
                for name, space, where in self.ways()
            }


def failed(used: dict[str, Knocking]) -> dict[str, list[object]]:
    """The failures by way, where there were any."""
    return {name: list(seen.failures) for name, seen in used.items() if seen.failures}
