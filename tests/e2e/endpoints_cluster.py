"""Random Services and Pods on a real API server, their mutations, and what two controllers made of them.

For the tests of the endpoints controllers. Each scenario is a namespace of its own; a `World` holds the objects as the
test wrote them. Pods have no kubelet: their status is patched.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.e2e.conftest import BASE, Cluster
from tools.lab.manifests import Object
from tools.lab.rest import Refused, Rest, path_to

COMPONENT = BASE.parent / "components" / "endpoints"
ACCOUNT = "controlplane-with-endpoints"  # the control plane's own may not more than the base grants
GRANTED = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})
OURS = "endpointslice-controller.deltaplane.dev"
THEIRS = "endpointslice-controller.k8s.io"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
DISCOVERY = "discovery.k8s.io/v1"
TRIGGER = "endpoints.kubernetes.io/last-change-trigger-time"
APPS = ("red", "green", "blue")
PORTS = (
    {"name": "web", "port": 80, "targetPort": 8080},
    {"name": "web", "port": 80, "targetPort": "http"},
    {"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"},
    {"name": "api", "port": 443, "targetPort": "side", "appProtocol": "kubernetes.io/h2c"},
    {"name": "same", "port": 9000},
)


def kubeconfig(cluster: Cluster, folder: Path) -> Path:
    """An account like the control plane's, with what deploy/kustomize/components/endpoints grants it."""
    layers = {"resources": BASE, "components": COMPONENT}
    overlay = {kind: [os.path.relpath(path, folder.resolve())] for kind, path in layers.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    granted = [thing for thing in cluster.api.kustomize(folder) if thing["kind"] in GRANTED]
    cluster.api.grant(json.loads(json.dumps(granted).replace("deltaplane-controlplane", ACCOUNT)))
    return cluster.api.kubeconfig(ACCOUNT, "deltaplane-system")


class World:
    """One scenario: namespace `name`, a few Services, some Pods."""

    def __init__(self, rest: Rest, name: str, random: Random, nodes: list[str], large: bool = False) -> None:
        self.rest, self.name, self.random, self.nodes = rest, name, random, nodes
        self.services: dict[str, Object] = {}
        self.pods: dict[str, Object] = {}
        self._number = 0
        self._finished: set[str] = set()
        rest.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        for number in range(random.randint(1, 3)):
            self.add_service(f"svc-{number}")
        for _ in range(random.randint(105, 230) if large else random.randint(0, 9)):
            self.add_pod()

    # ------------------------------------------------------------ Services

    def add_service(self, name: str) -> None:
        chosen = self.random.sample(PORTS, self.random.randint(1, 3))
        ports = list({port["name"]: {"protocol": "TCP", **port} for port in chosen}.values())
        headless = self.random.random() < 0.25
        spec: Object = {
            "selector": self._selector(),
            "ports": [] if headless and self.random.random() < 0.3 else ports,
            "ipFamilyPolicy": self.random.choice(["SingleStack", "RequireDualStack"]),
            "publishNotReadyAddresses": self.random.random() < 0.2,
            **({"clusterIP": "None"} if headless else {}),
        }
        if spec["ipFamilyPolicy"] == "SingleStack":
            spec["ipFamilies"] = [self.random.choice(["IPv4", "IPv6"])]
        distribution = self.random.choice([None, None, "PreferClose", "PreferSameZone", "PreferSameNode"])
        if distribution:
            spec["trafficDistribution"] = distribution
        kind = self.random.random()
        if kind < 0.05:
            spec.pop("selector")
        elif kind < 0.1:
            spec = {"type": "ExternalName", "externalName": "example.com", "selector": self._selector()}
        labels = self.random.choice([{}, {"team": "a"}, {"team": "b", "tier": "front"}])
        meta = {"name": name, "namespace": self.name, "labels": labels}
        self.services[name] = self.rest.create({"apiVersion": "v1", "kind": "Service", "metadata": meta, "spec": spec})

    def _selector(self) -> dict[str, str]:
        app = {"app": self.random.choice(APPS)}
        return app | ({"track": "stable"} if self.random.random() < 0.3 else {})

    def _labels(self) -> dict[str, str]:
        return {"app": self.random.choice(APPS), "track": self.random.choice(["stable", "canary"])}

    # ------------------------------------------------------------ Pods

    def add_pod(self) -> None:
        name = f"pod-{self._number}"
        self._number += 1
        names = self.random.choice([["http", "dns"], ["http"], [], ["dns"]])
        numbers = {"http": self.random.choice([8080, 9090]), "dns": 5353}
        ports = [{"name": n, "containerPort": numbers[n], "protocol": "UDP" if n == "dns" else "TCP"} for n in names]
        containers: list[Object] = [{"name": "main", "image": "none", "ports": ports}]
        spec: Object = {"containers": containers}
        if self.random.random() < 0.2:
            side = {"name": "side", "image": "none", "restartPolicy": "Always"}
            spec["initContainers"] = [{**side, "ports": [{"name": "side", "containerPort": 7000}]}]
        where = self.random.random()
        if where < 0.92:
            spec["nodeName"] = self.random.choice(self.nodes)
        elif where < 0.96:
            spec["nodeName"] = "no-such-node"
        if self.random.random() < 0.2:
            spec |= {"hostname": f"host-{self._number}", "subdomain": self.random.choice(["svc-0", "svc-1", "other"])}
        meta = {"name": name, "namespace": self.name, "labels": self._labels()}
        self.pods[name] = self.rest.create({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        if self.random.random() < 0.92:
            self.set_status(name, self.random.random() < 0.75)

    def set_status(self, name: str, ready: bool, phase: str = "Running") -> None:
        number = int(name.removeprefix("pod-"))
        both = [f"10.9.{number // 250}.{number % 250 + 1}", f"fd00:9::{number + 1:x}"]
        ips = both if number % 5 else [both[number % 2]]
        condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": "2026-01-01T00:00:00Z"}
        status = {"phase": phase, "conditions": [condition], "podIP": ips[0], "podIPs": [{"ip": ip} for ip in ips]}
        with contextlib.suppress(Refused):  # one that no kubelet had is gone at once when it is deleted
            self.rest.patch("Pod", name, {"status": status}, namespace=self.name, sub="status")

    # ------------------------------------------------------------ mutations

    def mutate(self) -> None:
        for _ in range(self.random.randint(1, 3)):
            ways = [self.add_pod, self.flip, self.flip, self.remove, self.end, self.relabel, self.finish]
            ways += [self.change_service, self.change_service, self.delete_service]
            self.random.choice(ways)()

    def _any_pod(self) -> str | None:
        return self.random.choice(sorted(self.pods)) if self.pods else None

    def flip(self) -> None:
        name = self._any_pod()
        if name and name not in self._finished:  # it never runs again
            self.set_status(name, self.random.random() < 0.5)

    def finish(self) -> None:
        """A job's Pod, whose containers have ended. kube-controller-manager misses it unless it was ready before."""
        if name := self._any_pod():
            self._finished.add(name)
            self.set_status(name, ready=True)
            self.set_status(name, ready=False, phase=self.random.choice(["Succeeded", "Failed"]))

    def end(self) -> None:
        """It terminates, and stays so: nothing here ends it."""
        if name := self._any_pod():
            self.rest.delete(self.pods[name])

    def remove(self) -> None:
        if name := self._any_pod():
            path = f"{path_to('v1', 'Pod', self.name, name)}"
            with contextlib.suppress(Refused):
                self.rest.call("DELETE", path, {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
            del self.pods[name]

    def relabel(self) -> None:
        if name := self._any_pod():
            self._patch("Pod", name, {"metadata": {"labels": self._labels()}})

    def change_service(self) -> None:
        if not self.services:
            return
        name = self.random.choice(sorted(self.services))
        changes: list[Object] = [
            {"spec": {"publishNotReadyAddresses": self.random.random() < 0.5}},
            {"metadata": {"labels": {"team": self.random.choice(["c", None])}}},
            {"spec": {"trafficDistribution": self.random.choice([None, "PreferSameZone", "PreferSameNode"])}},
        ]
        if self.services[name]["spec"].get("selector") and self.services[name]["spec"]["type"] != "ExternalName":
            changes.append({"spec": {"selector": {"app": self.random.choice(APPS)}}})
            ports = [{"name": "web", "port": 80, "targetPort": self.random.choice([8081, "http"]), "protocol": "TCP"}]
            changes.append({"spec": {"ports": ports}})
        self._patch("Service", name, self.random.choice(changes))

    def _patch(self, kind: str, name: str, change: Object) -> None:
        with contextlib.suppress(Refused):
            self.rest.patch(kind, name, change, namespace=self.name)

    def delete_service(self) -> None:
        if self.services and self.random.random() < 0.5:
            name = self.random.choice(sorted(self.services))
            self.rest.delete(self.services.pop(name))
            if self.random.random() < 0.5:
                self.add_service(name)


# ------------------------------------------------------------ what was made


def listed(rest: Rest, kind: str, api: str, selector: str = "") -> list[Object]:
    """The objects of all namespaces."""
    query = {"labelSelector": selector} if selector else {}
    path = "/api/v1/endpoints" if kind == "Endpoints" else path_to(api, kind)
    items: list[Object] = rest.call("GET", path, **query)["items"]
    return items


def made(rest: Rest, manager: str) -> list[Object]:
    return listed(rest, "EndpointSlice", DISCOVERY, f"{MANAGED_BY}={manager}")


def versions(slices: Iterable[Object]) -> dict[tuple[str, str], str]:
    return {
        (one["metadata"]["namespace"], one["metadata"]["name"]): one["metadata"]["resourceVersion"] for one in slices
    }


def by_service(slices: Iterable[Object]) -> dict[tuple[str, str], list[Object]]:
    """What the slices of each Service say, up to names, managers and order. Groups over one slice are one."""
    groups: dict[tuple[str, str], dict[str, list[Object]]] = defaultdict(lambda: defaultdict(list))
    for one in slices:
        meta = one["metadata"]
        labels = {key: value for key, value in meta["labels"].items() if key != MANAGED_BY}
        owners = [{k: v for k, v in owner.items() if k != "uid"} for owner in meta.get("ownerReferences", [])]
        ports = sorted(one.get("ports") or [], key=repr)
        said = {"family": one["addressType"], "ports": ports, "labels": labels, "owners": owners}
        groups[meta["namespace"], meta["labels"]["kubernetes.io/service-name"]][repr(said)].append(one)
    return {name: _without_leftovers(kinds) for name, kinds in sorted(groups.items())}


def _without_leftovers(kinds: dict[str, list[Object]]) -> list[Object]:
    """The groups of a Service. kube-controller-manager may leave an empty slice beside full ones, by what came when."""
    full = {one["addressType"] for some in kinds.values() for one in some if one.get("endpoints")}
    groups = [(said, some, _endpoints(some)) for said, some in sorted(kinds.items())]
    kept = [(said, ends) for said, some, ends in groups if ends or some[0]["addressType"] not in full]
    return [{"said": said, "endpoints": ends} for said, ends in kept]


def _endpoints(slices: Iterable[Object]) -> list[Any]:
    return sorted((end for one in slices for end in one.get("endpoints") or []), key=repr)


def sizes(slices: Iterable[Object]) -> Counter[int]:
    return Counter(len(one.get("endpoints") or []) for one in slices)


def said_endpoints(items: Iterable[Object]) -> dict[tuple[str, str], Object]:
    """What Endpoints say, up to managers, times and order."""
    found = {}
    for one in items:
        meta = one["metadata"]
        labels = {key: value for key, value in meta.get("labels", {}).items() if "managed-by" not in key}
        notes = {key: value for key, value in meta.get("annotations", {}).items() if key != TRIGGER}
        subsets = [{key: sorted(value, key=repr) for key, value in part.items()} for part in one.get("subsets") or []]
        said = {"labels": labels, "annotations": notes, "subsets": sorted(subsets, key=repr)}
        found[meta["namespace"], meta["name"]] = said
    return found
