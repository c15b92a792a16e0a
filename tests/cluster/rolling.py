"""A Deployment of twenty Pods that is restarted under load, and what became of every connection meanwhile.

`python -m tests.cluster.rolling FILE` does it with kube-proxy and with Deltaplane, by each hook, and writes the table.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.cluster.installed import Deltaplane
from tests.cluster.shop import Shop
from tests.rolled import NAME, PODS, Rolled
from tools.lab import kubeproxy
from tools.lab.client import knocking
from tools.lab.cluster import cluster as clusters
from tools.lab.cluster import pods, product
from tools.lab.cluster.cluster import Cluster
from tools.lab.netns import Namespace
from tools.lab.rules import wipe

# In docs/operating.md too: over each of the node's addresses, so that both addresses of a Pod are asked for.
ASK = (
    "for at in $(echo $HOST_IPS | tr , ' '); do case $at in *:*) at=[$at];; esac; "
    "curl -sS -m 28 http://$at:10259/drain >>/tmp/drain 2>&1 & done; wait; cat /tmp/drain >/proc/1/fd/1"
)
HOOKS: dict[str, dict[str, Any] | None] = {
    "no hook": None,
    "sleep 15": {"sleep": {"seconds": 15}},
    "drain": {"exec": {"command": ["sh", "-c", ASK]}},
}


class Rolling:
    """Opened once; `restart` as often as wanted."""

    def __init__(self, cluster: Cluster, shop: Shop) -> None:
        self.cluster, self._shop = cluster, shop

    def open(self, hook: str) -> None:
        """Returns when all Pods with this hook are ready."""
        deployment, service = pods.echo(NAME, PODS)
        spec = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        del container["lifecycle"]
        if (found := HOOKS[hook]) is not None:
            container["lifecycle"] = {"preStop": found}
        container["resources"] = {"requests": {"cpu": "20m"}}
        container["env"] = [{"name": "HOST_IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIPs"}}}]
        deployment["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 5}}
        for thing in (deployment, service):
            self.cluster.api.admin.apply(thing)
        self._rolled()
        self.cluster.wait(lambda: len(self.names()) == PODS, "the Pods of the last restart gone")

    def names(self) -> set[str]:
        """All Pods there are, those that end among them."""
        path = "/api/v1/namespaces/default/pods"
        found = self.cluster.api.admin.call("GET", path, labelSelector=f"app={NAME}")["items"]
        return {pod["metadata"]["name"] for pod in found}

    def _rolled(self) -> None:
        self.cluster.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=900s")

    def ways(self) -> Iterator[tuple[Namespace, str, int]]:
        """From a Pod on each node to each ClusterIP, and from outside to each node's port."""
        service = self.cluster.api.admin.get("Service", NAME)["spec"]
        for pod in self._shop.clients():
            for address in service["clusterIPs"]:
                yield pods.inside(pod), address, 80
        outside = self.cluster.fabric.outside[0].space
        for place in self.cluster.fabric.nodes:
            yield outside, place.address(), int(service["ports"][0]["nodePort"])

    def restart(self, proxy: str, hook: str) -> Rolled:
        """`kubectl rollout restart` to when every old Pod is gone, while somebody connects over each way."""
        old = self.names()
        with ExitStack() as open_ones:
            seen = [open_ones.enter_context(knocking(*way, pause=0.01)) for way in self.ways()]
            began = time.monotonic()
            self.cluster.kubectl("rollout", "restart", f"deployment/{NAME}")
            self._rolled()
            self.cluster.wait(lambda: not old & self.names(), "the old Pods gone", 300)
            seconds = time.monotonic() - began
        failures = Counter(str(outcome) for each in seen for _, outcome in each.failures)
        return Rolled(proxy, hook, seconds, sum(each.answers.total() for each in seen), failures)

    def close(self) -> None:
        """Takes it away."""
        self.cluster.kubectl("delete", f"deployment/{NAME}", f"service/{NAME}", "--ignore-not-found", "--wait")


def measured(cluster: Cluster) -> Iterator[Rolled]:
    """kube-proxy without a hook; Deltaplane without, with a sleep and with the drain."""
    shop = Shop(cluster)
    shop.open()
    rolling = Rolling(cluster, shop)
    places = cluster.fabric.nodes
    running = [kubeproxy.start(place, cluster.api.admin_kubeconfig, cluster.run.folder) for place in places]
    try:
        for hook in ("no hook", "sleep 15"):
            rolling.open(hook)
            yield rolling.restart("kube-proxy", hook)
    finally:
        for process in running:
            process.stop()
    for place in places:
        wipe(place.space)
    Deltaplane(cluster).apply("drain")
    for hook in HOOKS:
        rolling.open(hook)
        yield rolling.restart("Deltaplane", hook)


def main() -> None:
    """Writes a line for each restart to the file as it ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.rolling", description=__doc__)
    parser.add_argument("file", type=Path)
    file: Path = parser.parse_args().file
    with clusters.running([product.made()]) as cluster, file.open("w") as out:
        for rolled in measured(cluster):
            print(rolled.row(), file=out, flush=True)


if __name__ == "__main__":
    main()
