"""kube-proxy on the node of a `Network`, fed by a real API server: started per set of options, told when it has synced.

Called by the column that holds the corpus against kube-proxy itself.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import yaml

from tests.flows.network import Network
from tests.flows.scenario import CLUSTER_CIDR, NODE_NAME, View
from tests.flows.twin import twin
from tests.flows.world import VERSIONS, named, whole
from tools.lab import parts
from tools.lab.apiserver import ApiServer
from tools.lab.client import until
from tools.lab.process import Process
from tools.lab.rules import run

API_ADDRESS = "198.51.100.2"
_SENTINEL = "172.30.250.1"
_OWN = {("ServiceCIDR", "kubernetes")}  # the API server has these itself


class Reference:
    """Raises `tools.lab.parts.PartMissing` where a program cannot be had."""

    def __init__(self, network: Network, folder: Path, mode: str) -> None:
        self._network, self._folder, self._mode = network, folder, mode
        self.api = ApiServer(network.machine("apiserver", API_ADDRESS), folder)
        self._process: Process | None = None
        self._options: tuple[object, ...] = ()
        self._zone: str | None = None
        self._made: list[dict[str, Any]] = []
        self._namespaces = {"default"}
        self._rounds = itertools.count(1)
        self.api.start()

    def close(self) -> None:
        if self._process:
            self._process.stop()
        self.api.close()

    def options(self, view: View) -> None:
        """kube-proxy runs with these; it is started again only where they differ."""
        self._register(view.zone)
        wanted = (bool(view.cluster_cidr), view.masquerade_all, view.nodeport_addresses)
        if wanted == self._options:
            return
        if self._process:
            self._process.stop()
        config = self._folder / "kube-proxy.yaml"
        config.write_text(yaml.safe_dump(self._configuration(view)))
        command: list[str | Path] = [
            parts.find("kube-proxy"),
            f"--config={config}",
            f"--hostname-override={NODE_NAME}",
            "--v=2",
        ]
        log = self._folder / "kube-proxy.log"
        self._process = Process("kube-proxy", command, log, self._network.node)
        self._options = wanted

    def _configuration(self, view: View) -> dict[str, Any]:
        """Without the second's pause between syncs, and without touching sysctls that are the whole machine's."""
        cidrs = [view.cluster_cidr and cidr for cidr in (CLUSTER_CIDR, twin(CLUSTER_CIDR))]
        return {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": self._mode,
            "hostnameOverride": NODE_NAME,
            "clientConnection": {"kubeconfig": str(self.api.admin_kubeconfig)},
            "clusterCIDR": ",".join(filter(None, cidrs)),
            "nodePortAddresses": list(view.nodeport_addresses),
            self._mode: {"masqueradeAll": view.masquerade_all, "minSyncPeriod": "10ms", "syncPeriod": "30s"},
            "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        }

    def _register(self, zone: str) -> None:
        """The Node object, whose zone label kube-proxy follows."""
        if zone == self._zone:
            return
        addresses = [{"type": "InternalIP", "address": address} for address in ("192.168.0.2", twin("192.168.0.2"))]
        self.put_node(zone, addresses)
        self._zone = zone

    def put_node(self, zone: str, addresses: list[dict[str, str]]) -> None:
        labels = {"topology.kubernetes.io/zone": zone} if zone else {}
        node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE_NAME, "labels": labels}}
        self.api.admin.apply_node(node | {"status": {"addresses": addresses}})

    def apply(self, thing: Mapping[str, Any]) -> None:
        """Writes an object of the corpus."""
        made = whole(thing)
        if (made["kind"], made["metadata"]["name"]) in _OWN:
            return
        if made["kind"] == "Node":
            self._zone = None
            self.api.admin.apply_node(made)
            return
        namespace = made["metadata"].get("namespace")
        if namespace and namespace not in self._namespaces:
            self.api.admin.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
            self._namespaces.add(namespace)
        self._made.append(made)
        self.api.admin.apply({key: value for key, value in made.items() if key != "status"})
        if "status" in made:
            self.api.admin.apply({key: value for key, value in made.items() if key != "spec"}, "status")

    def delete(self, text: str) -> None:
        """Deletes "Kind name" or "Kind namespace/name"."""
        kind, namespace, name = named(text)
        self.api.admin.delete(_thing(kind, namespace, name))

    def empty(self) -> None:
        """Deletes what was applied since the last call."""
        for thing in self._made:
            self.api.admin.delete(
                _thing(thing["kind"], thing["metadata"].get("namespace", ""), thing["metadata"]["name"])
            )
        self._made = []

    def synced(self) -> None:
        """Waits until kube-proxy has put everything so far into the kernel, of both families: each syncs by itself.

        A Service and its slice are changed last: when the port that both now name is in the kernel, all that either
        watch brought before is there too.
        """
        number = next(self._rounds)
        name, port = f"s{number}", 1000 + number
        addresses = [_SENTINEL, twin(_SENTINEL)]
        spec = {
            "clusterIP": _SENTINEL, "clusterIPs": addresses, "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "RequireDualStack", "ports": [{"name": name, "port": port, "protocol": "TCP"}],
        }  # fmt: skip
        self.api.admin.apply(_thing("Service", "default", "sentinel") | {"spec": spec})
        for kind, address in (("IPv4", "10.255.0.1"), ("IPv6", twin("10.255.0.1"))):
            slice_ = _thing("EndpointSlice", "default", f"sentinel-{kind.lower()}")
            slice_["metadata"]["labels"] = {"kubernetes.io/service-name": "sentinel"}
            ports = [{"name": name, "port": 80, "protocol": "TCP"}]
            self.api.admin.apply(
                slice_ | {"addressType": kind, "endpoints": [{"addresses": [address]}], "ports": ports}
            )
        holds = self._map_holds if self._mode == "nftables" else self._chain_holds
        for family, address in zip((4, 6), addresses, strict=True):
            until(
                partial(holds, family, address, port),
                30,
                0.01,
                lambda: f"kube-proxy synced {name}: {self._tail()}",
            )

    def _map_holds(self, family: int, address: str, port: int) -> bool:
        table = "ip" if family == 4 else "ip6"
        listed = run(self._network.node, "nft", "list", "map", table, "kube-proxy", "service-ips", check=False)
        return f"{address} . tcp . {port} " in listed

    def _chain_holds(self, family: int, address: str, port: int) -> bool:
        program, length = ("iptables", 32) if family == 4 else ("ip6tables", 128)
        listed = run(self._network.node, program, "-t", "nat", "-S", "KUBE-SERVICES", check=False).splitlines()
        return any(f"-d {address}/{length} " in line and f"--dport {port} " in line for line in listed)

    def _tail(self) -> str:
        return self._process.tail() if self._process else "not started"

    def health(self, address: str, port: int) -> int:
        """The local endpoints a health check node port speaks of."""
        connection = HTTPConnection(address, port, timeout=5)
        try:
            with self._network.node.entered():
                connection.connect()
            connection.request("GET", "/")
            answer: int = json.loads(connection.getresponse().read())["localEndpoints"]
            return answer
        finally:
            connection.close()


def _thing(kind: str, namespace: str, name: str) -> dict[str, Any]:
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata}
