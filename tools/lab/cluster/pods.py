"""Pods of the cluster as places to connect from, and the small application that tests put behind Services.

Called by tests/cluster. A Pod's network namespace has no name on this machine, so it is entered through a process of
it, which its cgroup tells.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab.cluster.cluster import Cluster
from tools.lab.cluster.images import AGNHOST, BASE
from tools.lab.manifests import Object
from tools.lab.netns import Namespace

PORT = 8080
# As tools.lab.echo: says its name and whom it sees, again for each piece of data. Ends at SIGTERM, as process 1 too.
_ECHO = f"""
import os, signal, socket, socketserver
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
class Answer(socketserver.BaseRequestHandler):
    def handle(self):
        seen = self.client_address[0].removeprefix("::ffff:")
        line = (socket.gethostname() + " " + seen + chr(10)).encode()
        self.request.sendall(line)
        while self.request.recv(65536):
            self.request.sendall(line)
class Server(socketserver.ThreadingTCPServer):
    address_family, allow_reuse_address, daemon_threads, request_queue_size = socket.AF_INET6, True, True, 1024
Server(("::", {PORT}), Answer).serve_forever()
"""


@dataclass(frozen=True)
class Inside(Namespace):
    """A Pod's network namespace: `name` is the Pod's, `pid` a process in it."""

    pid: int = 0

    @property
    def path(self) -> Path:
        return Path(f"/proc/{self.pid}/ns/net")


def inside(pod: Object) -> Inside:
    """The network namespace of a running Pod. Raises LookupError where it has no process on this machine."""
    pids = processes(pod)
    if not pids:
        raise LookupError(f"Pod {pod['metadata']['name']} has no process")
    return Inside(pod["metadata"]["name"], pids[0])


def processes(pod: Object) -> list[int]:
    """Every process of the Pod, the sandbox's among them, by the machine's own numbers."""
    mark = f"/pod{pod['metadata']['uid']}/"
    every = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sorted(pid for pid in every if mark in _cgroups(pid))


def _cgroups(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""


def running(cluster: Cluster, selector: str, namespace: str = "default") -> list[Object]:
    """Ready Pods with this label that nobody has asked to end."""
    path = f"/api/v1/namespaces/{namespace}/pods"
    found = cluster.api.admin.call("GET", path, labelSelector=selector)["items"]
    return [pod for pod in found if "deletionTimestamp" not in pod["metadata"] and _ready(pod)]


def _ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def echo(name: str = "echo", replicas: int = 4) -> list[Object]:
    """A Deployment that answers as `tools.lab.echo` does, spread over the nodes, and a dual-stack NodePort Service."""
    probe = {"tcpSocket": {"port": PORT}, "periodSeconds": 1}
    # As anyone does who wants no connection lost: it goes on serving while the proxies learn that it goes.
    leave = {"preStop": {"sleep": {"seconds": 5}}}
    container = {"name": "echo", "image": BASE, "command": ["python3", "-c", _ECHO], "readinessProbe": probe}
    container |= {"resources": {"requests": {"cpu": "200m"}}}  # else a busy node starves it, and clients time out
    spread = {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    spread |= {"labelSelector": {"matchLabels": {"app": name}}}
    pod = {"containers": [container | {"lifecycle": leave}], "topologySpreadConstraints": [spread]}
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 2}}
    spec = {"replicas": replicas, "strategy": strategy, "selector": {"matchLabels": {"app": name}}}
    template = {"metadata": {"labels": {"app": name}}, "spec": pod}
    service = {"type": "NodePort", "selector": {"app": name}, "ports": [{"port": 80, "targetPort": PORT}]}
    service |= {"ipFamilyPolicy": "RequireDualStack"}
    return [
        _object("apps/v1", "Deployment", name, spec | {"template": template}),
        _object("v1", "Service", name, service),
    ]


def client(node: str) -> Object:
    """A Pod on this node to connect from and to look names up in."""
    container = {"name": "client", "image": AGNHOST, "args": ["pause"]}
    spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
    made = _object("v1", "Pod", f"client-{node}", spec)
    made["metadata"]["labels"] = {"app": "client"}
    return made


def _object(version: str, kind: str, name: str, spec: dict[str, Any]) -> Object:
    metadata: dict[str, Any] = {"name": name, "namespace": "default"}
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}
