"""kube-proxy as kubeadm installs it: a ConfigMap and a DaemonSet `kube-proxy` in kube-system, with its account."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import yaml

from tools.lab import parts, rules
from tools.lab.apiserver import ApiServer
from tools.lab.cluster.cluster import Cluster
from tools.lab.cluster.product import (
    NAME as IMAGE,
)  # it has kube-proxy's programs: iptables, nft, conntrack's kernel side
from tools.lab.fabric import CLUSTER_CIDRS

SPACE = "kube-system"
LABELS = {"k8s-app": "kube-proxy"}
HOST = {"binary": "/opt/kube-proxy", "xtables-lock": "/run/xtables.lock"}


@contextmanager
def running(cluster: Cluster, mode: str) -> Iterator[None]:
    """Ready on every node meanwhile; at the end it goes, with what it left in the kernels."""
    things = objects(cluster.api, mode)
    cluster.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all(things))
    cluster.kubectl("-n", SPACE, "rollout", "status", "daemonset/kube-proxy", "--timeout=180s")
    try:
        yield
    finally:
        cluster.kubectl("delete", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all(things))
        for place in cluster.fabric.nodes:
            rules.wipe(place.space)


def objects(api: ApiServer, mode: str) -> list[dict[str, Any]]:
    """What kubeadm applies, with the program of the real parts."""
    data = {"config.conf": yaml.safe_dump(configuration(mode)), "kubeconfig.conf": _kubeconfig(api)}
    account = {"kind": "ServiceAccount", "name": "kube-proxy", "namespace": SPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:node-proxier"}
    return [
        _object("v1", "ServiceAccount"),
        _object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", roleRef=role, subjects=[account]),
        _object("v1", "ConfigMap", data=data),
        _object("apps/v1", "DaemonSet", spec=_workload()),
    ]


def configuration(mode: str) -> dict[str, Any]:
    """The KubeProxyConfiguration; the kernel settings that are the machine's stay as they are."""
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": mode,
        "clusterCIDR": ",".join(CLUSTER_CIDRS),
        "clientConnection": {"kubeconfig": "/var/lib/kube-proxy/kubeconfig.conf"},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }


def _object(version: str, kind: str, **more: Any) -> dict[str, Any]:
    space = {} if kind.startswith("Cluster") else {"namespace": SPACE}
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "kube-proxy", **space}, **more}


def _kubeconfig(api: ApiServer) -> str:
    admin = yaml.safe_load(api.admin_kubeconfig.read_text())["clusters"][0]["cluster"]
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    return yaml.safe_dump({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "default",
        "clusters": [{"name": "default", "cluster": admin}],
        "users": [{"name": "default", "user": {"tokenFile": token}}],
        "contexts": [{"name": "default", "context": {"cluster": "default", "user": "default"}}],
    })  # fmt: skip


def _workload() -> dict[str, Any]:
    host = {**HOST, "binary": str(parts.find("kube-proxy").parent)}
    mounts = [{"name": name, "mountPath": path} for name, path in HOST.items()]
    command = [f"{HOST['binary']}/kube-proxy", "--config=/var/lib/kube-proxy/config.conf"]
    container = {
        "name": "kube-proxy",
        "image": IMAGE,
        "command": [*command, "--hostname-override=$(NODE_NAME)"],
        "env": [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "securityContext": {"privileged": True, "runAsUser": 0},
        "volumeMounts": [{"name": "config", "mountPath": "/var/lib/kube-proxy"}, *mounts],
    }
    pod = {
        "serviceAccountName": "kube-proxy",
        "hostNetwork": True,
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-node-critical",
        "containers": [container],
        "volumes": [{"name": "config", "configMap": {"name": "kube-proxy"}}, *map(_volume, host.items())],
    }
    template = {"metadata": {"labels": LABELS}, "spec": pod}
    return {"selector": {"matchLabels": LABELS}, "template": template}


def _volume(pair: tuple[str, str]) -> dict[str, Any]:
    kind = {"type": "FileOrCreate"} if pair[1].endswith(".lock") else {}
    return {"name": pair[0], "hostPath": {"path": pair[1], **kind}}
