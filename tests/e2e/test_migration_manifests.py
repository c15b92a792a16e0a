"""What a move from kube-proxy is made with: the API server takes it, and the pods get what the programs need."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import nodeagent.config
from nodeagent.doctor import KubeProxy, translated, written
from tests.cluster import kubeproxy_pods
from tests.cluster.commands import HAND_BACK, blocks
from tests.e2e.conftest import Cluster
from tests.unit.deploy.manifests import REPOSITORY
from tools.lab import manifests, parts
from tools.lab.rules import run

SPACES = ("deltaplane-system", "deltaplane-cleanup")
KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"
ON_PAPER = """
kubectl() {
  case " $* " in
    *" rollout "* | *" wait "* | " deltaplane "*) ;;
    *" get "*) echo 1 ;; # one node, which is ready
    " delete "* | *" delete "*) command kubectl "$@" --dry-run=server --ignore-not-found ;;
    *) command kubectl "$@" --dry-run=server ;;
  esac
}
deltaplane() { :; }
sleep() { :; }
"""
"""What writes asks the API server, which keeps nothing of it; nothing is waited for, since there are no kubelets."""
AGENT = ("DaemonSet", "deltaplane-agent")


def rendered(cluster: Cluster, folder: Path, *components: Path) -> dict[tuple[str, str], dict[str, Any]]:
    """The example with these components, which the API server takes."""
    folder.mkdir()
    layers = {"resources": (KUSTOMIZE / "example",), "components": components}
    written_layers = {
        kind: [os.path.relpath(path.resolve(), folder.resolve()) for path in paths] for kind, paths in layers.items()
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written_layers))
    text = cluster.api.kubectl("kustomize", str(folder))
    cluster.api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=text)
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(text) if each}


def pod(objects: dict[tuple[str, str], dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = objects[AGENT]["spec"]["template"]["spec"]
    return found


@pytest.mark.parametrize("name", ["beside-kube-proxy", "chosen-nodes"])
def test_every_volume_of_the_agents_pod_is_mounted_and_every_mount_has_one(
    cluster: Cluster, tmp_path: Path, name: str
) -> None:
    agent = pod(rendered(cluster, tmp_path / "overlay", KUSTOMIZE / "components" / name))

    containers = [*agent.get("initContainers", ()), *agent["containers"]]
    mounted = {mount["name"] for container in containers for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in agent["volumes"]}
    assert ("--beside-kube-proxy" in agent["containers"][0]["args"]) == (name == "beside-kube-proxy")
    assert ("deltaplane.dev/proxy" in agent.get("nodeSelector", {})) == (name == "chosen-nodes")


def test_the_doctors_component_has_agents_and_their_init_container_use_its_file(
    cluster: Cluster, tmp_path: Path
) -> None:
    given = KubeProxy("here", ("--proxy-mode=iptables", "--cluster-cidr=10.0.0.0/8", "--masquerade-all"))
    written.component(translated(given, "nftables").ours, tmp_path / "made")

    objects = rendered(cluster, tmp_path / "overlay", tmp_path / "made")
    agent = pod(objects)

    (volume,) = [each["configMap"]["name"] for each in agent["volumes"] if each["name"] == "configuration"]
    file = tmp_path / written.FILE
    file.write_text(objects["ConfigMap", volume]["data"][written.FILE])
    for container in (agent["containers"][0], agent["initContainers"][0]):
        assert f"--config={written.MOUNTED}/{written.FILE}" in container["args"]
        assert written.MOUNTED in {mount["mountPath"] for mount in container["volumeMounts"]}
    settings = nodeagent.config.parse(["--server=192.0.2.1:1", "--insecure", f"--config={file}"])
    assert (settings.masquerade_all, settings.cluster_cidrs) == (True, ("10.0.0.0/8",))


@pytest.mark.parametrize("name", ["beside-kube-proxy", "drain", "endpoints", "insecure", "legacy-leftovers"])
def test_the_doctors_component_goes_with_others_that_come_after_it(cluster: Cluster, tmp_path: Path, name: str) -> None:
    written.component(translated(KubeProxy("here"), "nftables").ours, tmp_path / "made")

    agent = pod(rendered(cluster, tmp_path / "overlay", tmp_path / "made", KUSTOMIZE / "components" / name))

    assert f"--config={written.MOUNTED}/{written.FILE}" in agent["containers"][0]["args"]
    assert ("initContainers" in agent) == (name != "beside-kube-proxy")


@pytest.fixture
def moved(cluster: Cluster) -> Iterator[None]:
    """What the page's commands change is there: kube-proxy as kubeadm has it, a Service, the namespaces."""
    kubectl = cluster.api.kubectl
    things = [thing for thing in kubeproxy_pods.objects(cluster.api, "iptables") if thing["kind"] == "DaemonSet"]
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in SPACES]
    service = manifests.service("web", [manifests.port(80)])
    made = yaml.safe_dump_all([*spaces, *things, service])
    kubectl("apply", "-f", "-", stdin=made)
    yield
    kubectl("delete", "--wait=false", "--ignore-not-found", "-f", "-", stdin=yaml.safe_dump_all([*things, service]))


@pytest.mark.usefixtures("moved")
@pytest.mark.parametrize("name", blocks())
def test_the_api_server_takes_each_command_of_the_page(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """As `make test-cluster` runs them, on paper."""
    followed(cluster, tmp_path, name)


@pytest.mark.usefixtures("moved")
def test_the_api_server_takes_an_upgrade_after_a_rollback(cluster: Cluster, tmp_path: Path) -> None:
    """`rollout undo` writes the images as kubectl's own fields, which an apply without force may not change."""
    kubectl = cluster.api.kubectl
    every = yaml.safe_load_all(kubectl("kustomize", str(KUSTOMIZE / "example")))
    workloads = [each for each in every if each["kind"] == "DaemonSet"]
    text = yaml.safe_dump_all(workloads)
    kubectl("apply", "--server-side", "-f", "-", stdin=text)
    try:
        for each in workloads:
            undone = [{"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "deltaplane:before"}]
            name = f"daemonset/{each['metadata']['name']}"
            kubectl("-n", SPACES[0], "patch", name, "--field-manager=kubectl", "--type=json", "-p", json.dumps(undone))
        with pytest.raises(RuntimeError, match="conflict"):
            kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=text)
        followed(cluster, tmp_path, "upgrade")
    finally:
        kubectl("delete", "--wait=false", "-f", "-", stdin=text)


def followed(cluster: Cluster, tmp_path: Path, name: str) -> None:
    """Runs a block of the page on paper. Raises RuntimeError where the API server refuses a command."""
    text = ON_PAPER + blocks()[name].replace(HAND_BACK, str(KUSTOMIZE / "hand-back"))
    path = f"{parts.find('kubectl').parent}:/usr/sbin:/usr/bin:/sbin:/bin"
    values = {"PATH": path, "KUBECONFIG": cluster.api.admin_kubeconfig, "OVERLAY": KUSTOMIZE / "example"}
    values |= {"NODE": cluster.fabric.nodes[0].name, "SERVICE": "web"}

    words = [f"{key}={value}" for key, value in values.items()]
    run(cluster.api.host.space, "env", "-C", str(tmp_path), *words, "bash", "-euc", text)
