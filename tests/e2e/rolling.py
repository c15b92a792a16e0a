"""A Deployment of twenty Pods that is restarted under load, with real controllers and a kubelet of the test's own.

The Pods are namespaces of the laboratory's network, their slices kube-controller-manager's. The kubelet places Pods in
turn on the nodes, starts what they run, says that they are ready a moment later, and at their end runs their hook, ends
what they run and lets them go. `python -m tests.e2e.rolling FILE` writes the table of docs/operating.md.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.e2e.conftest import BASE
from tests.e2e.shop import deployed
from tests.rolled import NAME, PODS, Rolled
from tools.lab import controllers, fabric, kubeproxy
from tools.lab.apiserver import ApiServer
from tools.lab.client import Knocking, knocking
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod, Topology
from tools.lab.manifests import Object, node_object
from tools.lab.rest import Rest
from tools.lab.rules import run, wipe

PORT = 8080
STARTS = 1.0  # seconds from when a Pod's containers run to when they are ready
CONTROLLERS = ("deployment-controller", "replicaset-controller", "endpointslice-controller")
STATUS = "application/strategic-merge-patch+json"
SPACE = "/api/v1/namespaces/default"

Hook = Callable[["Lab", Pod], None]


def no_hook(_: Lab, __: Pod) -> None:
    """The Pod ends at once."""


def sleep(_: Lab, __: Pod) -> None:
    """As in many a chart."""
    time.sleep(15)


def drain(lab: Lab, pod: Pod) -> None:
    """As in docs/operating.md, over each of the node's addresses."""
    node = lab.fabric.node(pod.node)
    ways = [f"http://{node.address(4)}:10259/drain", f"http://[{node.address(6)}]:10259/drain"]
    asked = [threading.Thread(target=_ask, args=(lab, pod, way)) for way in ways]
    for thread in asked:
        thread.start()
    for thread in asked:
        thread.join()


def _ask(lab: Lab, pod: Pod, way: str) -> None:
    began = time.monotonic()
    said = run(pod.space, "curl", "-sS", "-m", "28", "-w", "%{http_code}", way, check=False)
    lab.drained.append((time.monotonic() - began, said[-3:]))


HOOKS: dict[str, Hook] = {"no hook": no_hook, "sleep 15": sleep, "drain": drain}


class Lab:
    """The network, the API server with its controllers, and the kubelet, which `step` moves."""

    def __init__(self, network: Fabric, api: ApiServer, hook: Hook) -> None:
        self.fabric, self.rest, self.hook = network, api.admin, hook
        self.drained: list[tuple[float, str]] = []  # seconds, status
        self.pods: dict[str, Pod] = {}
        self._servers = EchoServers()
        self._due: dict[str, float] = {}  # when a Pod becomes ready
        self._ending: dict[str, threading.Thread] = {}
        self._nodes = itertools.cycle(network.nodes)

    def step(self) -> None:
        """Looks at all Pods once."""
        for thing in self.listed():
            name = thing["metadata"]["name"]
            if name not in self.pods:
                self._begin(name)
            elif "deletionTimestamp" in thing["metadata"]:
                self._end(name)
            elif time.monotonic() >= self._due.get(name, float("inf")):
                del self._due[name]
                self._report(name, ready=True)

    def listed(self) -> list[Object]:
        found: list[Object] = self.rest.call("GET", f"{SPACE}/pods", labelSelector=f"app={NAME}")["items"]
        return found

    def _begin(self, name: str) -> None:
        pod = self.pods[name] = self.fabric.add_pod(next(self._nodes))
        target = {"apiVersion": "v1", "kind": "Node", "name": pod.node}
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        self.rest.call("POST", f"{SPACE}/pods/{name}/binding", binding)
        self._servers.start_pod(pod, PORT, ("tcp",))
        self._due[name] = time.monotonic() + STARTS
        self._report(name, ready=False)

    def _report(self, name: str, *, ready: bool) -> None:
        pod = self.pods[name]
        conditions = [{"type": kind, "status": str(ready)} for kind in ("ContainersReady", "Ready")]
        status = {"phase": "Running", "podIP": pod.v4, "podIPs": [{"ip": pod.v4}, {"ip": pod.v6}]}
        self.rest.call("PATCH", f"{SPACE}/pods/{name}/status", {"status": status | {"conditions": conditions}}, STATUS)

    def _end(self, name: str) -> None:
        self._due.pop(name, None)
        if name not in self._ending:
            self._ending[name] = threading.Thread(target=self.hook, args=(self, self.pods[name]), daemon=True)
            self._ending[name].start()
        elif not self._ending[name].is_alive():
            self._servers.stop_pod(self.pods[name])
            self._let_go(self.rest, name)
            del self._ending[name]
            self.fabric.remove_pod(self.pods.pop(name))

    @staticmethod
    def _let_go(rest: Rest, name: str) -> None:
        rest.call("DELETE", f"{SPACE}/pods/{name}", {"gracePeriodSeconds": 0})

    def until(self, holds: Callable[[], bool], limit: float = 240.0) -> None:
        """Moves the kubelet until it holds. Raises TimeoutError."""
        deadline = time.monotonic() + limit
        while not holds():
            if time.monotonic() > deadline:
                raise TimeoutError("the Pods did not come or go in time")
            self.step()
            time.sleep(0.02)

    def open(self) -> list[str]:
        """Makes the Deployment and its Service; gives the Service's addresses when all Pods are ready."""
        labels = {"app": NAME}
        template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "a", "image": "a"}]}}
        spec = {"replicas": PODS, "selector": {"matchLabels": labels}, "template": template}
        spec |= {"strategy": {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 5}}}
        port = {"port": 80, "targetPort": PORT}
        families = {"ipFamilyPolicy": "RequireDualStack", "selector": labels, "ports": [port]}
        meta = {"name": NAME, "namespace": "default"}
        self.rest.create({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec})
        made = self.rest.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": families})
        self.until(lambda: self._ready() == PODS)
        addresses: list[str] = made["spec"]["clusterIPs"]
        return addresses

    def _deployment(self) -> Object:
        return self.rest.get("Deployment", NAME, api="apps/v1")

    def _ready(self) -> int:
        return int(self._deployment()["status"].get("readyReplicas", 0))

    def restart(self, proxy: str, hook: str, seen: Sequence[Knocking]) -> Rolled:
        """As `kubectl rollout restart`, to when every old Pod is gone."""
        old, began = set(self.pods), time.monotonic()
        template = {"metadata": {"annotations": {"restarted": str(began)}}}
        path = f"/apis/apps/v1/namespaces/default/deployments/{NAME}"
        self.rest.call("PATCH", path, {"spec": {"template": template}}, STATUS)
        self.until(lambda: not old & set(self.pods))
        seconds = time.monotonic() - began
        failures = Counter(str(outcome) for each in seen for _, outcome in each.failures)
        answered = sum(each.answers.total() for each in seen)
        return Rolled(proxy, hook, seconds, answered, failures, [took for took, _ in self.drained])

    def close(self) -> None:
        """Ends what the Pods run, and takes them away."""
        for thing, api in (("deployments", "/apis/apps/v1/namespaces/default"), ("services", SPACE)):
            self.rest.call("DELETE", f"{api}/{thing}/{NAME}", {"propagationPolicy": "Background"})
        for found in self.rest.call("GET", "/apis/apps/v1/namespaces/default/replicasets")["items"]:
            self.rest.call("DELETE", f"/apis/apps/v1/namespaces/default/replicasets/{found['metadata']['name']}")
        for thread in self._ending.values():
            thread.join(30)
        for thing_ in self.listed():
            self._let_go(self.rest, thing_["metadata"]["name"])
        self._servers.close()
        for pod in self.pods.values():
            self.fabric.remove_pod(pod)


def rolled(network: Fabric, api: ApiServer, proxy: str, hook: str, ready: Callable[[], object]) -> tuple[Rolled, Lab]:
    """One restart, with somebody who connects from each node's pod to each of the Service's addresses. `ready`:
    returns when the proxy has the Service."""
    lab = Lab(network, api, HOOKS[hook])
    try:
        addresses = lab.open()
        ready()
        with ExitStack() as open_ones:
            spaces = [node.clients[0].space for node in network.nodes]
            seen = [
                open_ones.enter_context(knocking(space, address, 80, pause=0.01))
                for space in spaces
                for address in addresses
            ]
            return lab.restart(proxy, hook, seen), lab
    finally:
        lab.close()


@contextmanager
def manager(api: ApiServer, network: Fabric, folder: Path) -> Iterator[None]:
    """kube-controller-manager meanwhile."""
    running = controllers.start(network.apiserver, api.admin_kubeconfig, folder, *CONTROLLERS)
    try:
        yield
    finally:
        running.stop()


def measured(network: Fabric, api: ApiServer, folder: Path) -> Iterator[Rolled]:
    """kube-proxy without a hook and with a sleep; then Deltaplane with every hook."""
    proxies = [kubeproxy.start(node, api.admin_kubeconfig, folder) for node in network.nodes]
    try:
        for hook in ("no hook", "sleep 15"):
            yield rolled(network, api, "kube-proxy", hook, lambda: time.sleep(4))[0]
    finally:
        for process in proxies:
            process.stop()
    for node in network.nodes:
        wipe(node.space)
    source = ("--source=kubernetes", f"--kubeconfig={api.admin_kubeconfig}")
    with deployed(network, folder, *source, agent_flags=("--drain-listen=0.0.0.0",)) as line:
        for hook in HOOKS:
            yield rolled(network, api, "Deltaplane", hook, line.settle)[0]


def main() -> None:
    """Writes a line for each restart as it ends."""
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.rolling", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--repeat", type=int, default=1)
    said = parser.parse_args()
    file: Path = said.file
    with tempfile.TemporaryDirectory(prefix="rolling-") as made, fabric.running(Topology()) as network:
        folder = Path(made)
        api = ApiServer(network.apiserver, folder)
        try:
            api.start()
            for node in network.nodes:
                api.admin.apply_node(node_object(node))
            api.grant(api.kustomize(BASE))
            with manager(api, network, folder), file.open("w") as out:
                for _ in range(said.repeat):
                    for one in measured(network, api, folder):
                        print(one.row(), file=out, flush=True)
        finally:
            api.close()


if __name__ == "__main__":
    main()
