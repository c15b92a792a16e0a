"""kube-proxy in iptables mode on a node of its own, of either flavour, and objects of every kind to give to both.

Called by the test that compares listings. The objects are as the API server takes them, in both families.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodeagent.linux.iptables.programs import Flavour
from tests.flows.scenario import Step
from tests.flows.twin import twin
from tools.lab import parts
from tools.lab.apiserver import ApiServer
from tools.lab.client import until
from tools.lab.netns import Namespace
from tools.lab.process import Process
from tools.lab.rest import path_to

NODE, NODE_ADDRESS, CIDR = "test-node", "192.168.0.2", "10.0.0.0/8"
VERSIONS = {"Service": "v1", "EndpointSlice": "discovery.k8s.io/v1"}
Object = dict[str, Any]
_PROGRAMS = ("iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore")


def start(api: ApiServer, space: Namespace, folder: Path, flavour: Flavour, *options: str) -> Process:
    """kube-proxy finds the flavour's programs by their plain names, first in its path."""
    programs = folder / f"bin-{flavour.value}"
    programs.mkdir()
    for name in _PROGRAMS:
        (programs / name).symlink_to(parts.installed(f"xtables-{flavour.value}-multi"))
    command: list[str | Path] = [
        parts.find("kube-proxy"),
        f"--kubeconfig={api.admin_kubeconfig}",
        f"--hostname-override={NODE}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={CIDR},{twin(CIDR)}",
        "--conntrack-max-per-core=0",
        "--conntrack-tcp-timeout-established=0",
        "--conntrack-tcp-timeout-close-wait=0",
        *options,
    ]
    env = {"PATH": f"{programs}:/usr/sbin:/usr/bin:/sbin:/bin"}
    return Process(f"kube-proxy-{flavour.value}", command, folder / f"kube-proxy-{flavour.value}.log", space, env)


def node() -> Object:
    addresses = [{"type": "InternalIP", "address": address} for address in (NODE_ADDRESS, twin(NODE_ADDRESS))]
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}, "status": {"addresses": addresses}}


def write(api: ApiServer, step: Step) -> None:
    """The step's objects, each with its status."""
    for thing in step.apply:
        made = {"apiVersion": VERSIONS[thing["kind"]], **thing}
        made["metadata"] = {"namespace": "default", **thing["metadata"]}
        api.admin.apply({key: value for key, value in made.items() if key != "status"})
        if "status" in made:
            api.admin.apply({key: value for key, value in made.items() if key != "spec"}, "status")
    for text in step.delete:
        kind, _, name = text.partition(" ")
        metadata = {"name": name, "namespace": "default"}
        api.admin.delete({"apiVersion": VERSIONS[kind], "kind": kind, "metadata": metadata})


def there(api: ApiServer, kind: str) -> list[Object]:
    """Every object of a kind, as manifests say it."""
    items = api.admin.call("GET", path_to(VERSIONS[kind], kind))["items"]
    return [{"kind": kind, **{key: value for key, value in item.items() if key != "apiVersion"}} for item in items]


def empty(api: ApiServer) -> None:
    """Deletes everything but the API server's own."""
    for kind, version in VERSIONS.items():
        for item in there(api, kind):
            if item["metadata"]["name"] != "kubernetes":
                api.admin.delete({"apiVersion": version, "kind": kind, "metadata": item["metadata"]})


def settled(listing: Any, patience: float = 60.0) -> Any:
    """What a function gives once it gives the same for three seconds."""
    state: dict[str, Any] = {"last": None, "same": 0}

    def same() -> bool:
        found = listing()
        state["same"] = state["same"] + 1 if found == state["last"] else 0
        state["last"] = found
        return bool(state["same"] >= 6)

    until(same, patience, 0.5, lambda: "kube-proxy settles")
    return state["last"]


# ---------------------------------------------------------------- objects


def first() -> Step:
    """Services of every kind, in both families."""
    return Step(apply=tuple(_all()))


def second() -> Step:
    """Changes of many kinds, made one on top of the other."""
    return Step(
        apply=(
            *_slices("plain", ["10.180.0.1", "10.180.0.2", "10.180.0.4", "10.180.0.9"]),
            *_slices("empty", ["10.180.9.1"]),
            *_slices("affinity", []),
            service("policies", 7, type="NodePort", ports=[port(80, node=30007)]),
            service("new", 40),
            *_slices("new", ["10.180.7.7"], here=["10.180.7.8"]),
        ),
        delete=("Service udp", "EndpointSlice udp-4", "EndpointSlice udp-6", "Service nothing-here"),
    )


def _all() -> Iterator[Object]:
    yield service("plain", 1)
    yield from _slices("plain", ["10.180.0.1", "10.180.0.2", "10.180.0.3"])
    yield service("udp", 2, ports=[port(53, protocol="UDP", name="dns"), port(53, name="dns-tcp")])
    yield from _slices("udp", ["10.180.1.1", "10.180.1.2"], ports=[("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")])
    yield service("sctp", 3, ports=[port(132, protocol="SCTP")])
    yield from _slices("sctp", ["10.180.2.1"], ports=[("", 1320, "SCTP")])
    yield service("empty", 4, type="NodePort", ports=[port(80, node=30004)], externalIPs=["192.168.99.11"])
    yield service("affinity", 5, sessionAffinity="ClientIP", type="NodePort", ports=[port(80, node=30005)])
    yield from _slices("affinity", ["10.180.3.1", "10.180.3.2"])
    yield service("ports", 6, type="NodePort", ports=[port(80, name="a", node=30006), port(81, name="b", node=30016)])
    yield from _slices("ports", ["10.180.4.1"], ports=[("a", 8080, "TCP"), ("b", 8081, "TCP")])
    yield service("policies", 7, type="NodePort", ports=[port(80, node=30007)], externalTrafficPolicy="Local")
    yield from _slices("policies", ["10.180.5.1"], here=["10.180.5.2"])
    yield service("inside", 8, internalTrafficPolicy="Local")
    yield from _slices("inside", ["10.180.6.1"], here=["10.180.6.2"])
    yield service("nothing-here", 9, internalTrafficPolicy="Local")
    yield from _slices("nothing-here", ["10.180.6.3"])
    yield balancer("ranges", 10, "198.51.100.10", loadBalancerSourceRanges=["203.0.113.0/25", "192.168.0.0/24"])
    yield from _slices("ranges", ["10.180.8.1", "10.180.8.2"])
    yield balancer("local", 11, "198.51.100.11", externalTrafficPolicy="Local", healthCheckNodePort=32011)
    yield from _slices("local", ["10.180.8.3"], here=["10.180.8.4"])
    yield balancer("nobody", 12, "198.51.100.12", externalTrafficPolicy="Local", healthCheckNodePort=32012)
    yield from _slices("nobody", ["10.180.8.5"])


def service(name: str, number: int, *, ports: list[Object] | None = None, **spec: Any) -> Object:
    addresses = [f"172.30.1.{number}", twin(f"172.30.1.{number}")]
    if "externalIPs" in spec:
        spec["externalIPs"] = [*spec["externalIPs"], *twin(spec["externalIPs"])]
    families = {"ipFamilies": ["IPv4", "IPv6"], "ipFamilyPolicy": "RequireDualStack"}
    fixed = {"clusterIP": addresses[0], "clusterIPs": addresses, **families}
    metadata = {"name": name, "namespace": "default"}
    return {"kind": "Service", "metadata": metadata, "spec": {**fixed, "ports": ports or [port(80)], **spec}}


def balancer(name: str, number: int, vip: str, **spec: Any) -> Object:
    if "loadBalancerSourceRanges" in spec:
        spec["loadBalancerSourceRanges"] += twin(spec["loadBalancerSourceRanges"])
    made = service(name, number, type="LoadBalancer", ports=[port(80, node=30000 + number)], **spec)
    ingress = [{"ip": vip}, {"ip": twin(vip)}]
    return {**made, "status": {"loadBalancer": {"ingress": ingress}}}


def port(number: int, *, name: str = "", protocol: str = "TCP", node: int = 0) -> Object:
    made: Object = {"port": number, "protocol": protocol}
    return made | ({"name": name} if name else {}) | ({"nodePort": node} if node else {})


def _slices(
    owner: str, there: list[str], here: list[str] | None = None, ports: list[tuple[str, int, str]] | None = None
) -> Iterator[Object]:
    """One slice per family; `here` are endpoints of the node under test."""
    for kind in ("IPv4", "IPv6"):
        endpoints = [{"addresses": [address], "nodeName": "elsewhere"} for address in there]
        endpoints += [{"addresses": [address], "nodeName": NODE} for address in here or ()]
        yield {
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{owner}-{kind[-1]}",
                "namespace": "default",
                "labels": {"kubernetes.io/service-name": owner},
            },
            "addressType": kind,
            "endpoints": endpoints if kind == "IPv4" else twin(endpoints),
            "ports": [{"name": n, "port": p, "protocol": q} for n, p, q in ports or [("", 8080, "TCP")]],
        }
