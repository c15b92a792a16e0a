"""Components and folders that move a cluster from kube-proxy and back: what their arguments mean."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import controlplane.settings
import nodeagent.config
from tests.unit.deploy.manifests import REPOSITORY, container

KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"


def operations(folder: str) -> list[dict[str, Any]]:
    """Those of the JSON patches (RFC 6902) of a component."""
    document = yaml.safe_load((KUSTOMIZE / folder / "kustomization.yaml").read_text())
    patches = [yaml.safe_load(each["patch"]) for each in document["patches"]]
    return [operation for patch in patches if isinstance(patch, list) for operation in patch]


def added(folder: str) -> list[str]:
    return [each["value"] for each in operations(folder) if each["op"] == "add" and each["path"].endswith("/args/-")]


def test_beside_kube_proxy_the_control_plane_is_told_which_services_and_the_agent_what_to_leave() -> None:
    selector, beside = added("components/beside-kube-proxy")
    label, _, value = selector.partition("=")[2].partition("=")

    settings = controlplane.settings.parse(["--insecure", selector])
    agent = nodeagent.config.parse(["--server=192.0.2.1:1", "--insecure", "--proxy-mode=nftables", beside])

    assert settings.service_selector == f"{label}={value}" == "deltaplane.dev/serve=yes"
    assert agent.beside_kube_proxy


def test_the_way_back_removes_what_is_ours_alone() -> None:
    (flag,) = added("hand-back")

    settings = nodeagent.config.parse(["--cleanup", flag])

    assert settings.beside_kube_proxy
    assert settings.task is nodeagent.config.Task.CLEANUP


@pytest.mark.parametrize("folder", ["components/beside-kube-proxy"])
def test_what_a_patch_takes_away_is_what_it_tested_for(folder: str) -> None:
    tested = {each["path"].rpartition("/")[0] for each in operations(folder) if each["op"] == "test"}
    removed = [each["path"] for each in operations(folder) if each["op"] == "remove" and each["path"][-1].isdigit()]
    ports = [each["name"] for each in container("DaemonSet", "deltaplane-agent")["ports"]]

    assert all(any(path.startswith(one.rpartition("/")[0]) for one in tested) for path in removed)
    assert ports == ["health", "healthz", "metrics"]
