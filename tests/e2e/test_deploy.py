"""The manifests at the real API server: accepted whole, and the role is what the control plane needs and no more."""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Cluster
from tests.unit.deploy.manifests import REPOSITORY
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import ControlPlane

NAMESPACE, ACCOUNT = "deltaplane-system", "deltaplane-controlplane"
KUSTOMIZE = REPOSITORY / "deploy" / "kustomize"
WATCHED = {
    ("", "services"),
    ("", "nodes"),
    ("discovery.k8s.io", "endpointslices"),
    ("networking.k8s.io", "servicecidrs"),
}
VERBS = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
Permission = tuple[str, str, str]  # API group, resource, verb


def allows(api: ApiServer, account: str, permission: Permission) -> bool:
    """What the API server's own authoriser answers for this ServiceAccount, over all namespaces."""
    group, resource, verb = permission
    attributes = {"group": group, "resource": resource, "verb": verb}
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{NAMESPACE}", "system:authenticated"]
    user = f"system:serviceaccount:{NAMESPACE}:{account}"
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": user, "groups": groups, "resourceAttributes": attributes},
    }
    answer = api.admin.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def eventually(holds: Callable[[], bool], limit: float = 20.0) -> bool:
    """The authoriser learns of a new binding by a watch of its own."""
    deadline = time.monotonic() + limit
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.05)
    return holds()


def every_permission(api: ApiServer) -> Iterator[Permission]:
    """Each verb on each resource the server has."""
    for name in api.kubectl("api-resources", "-o", "name").split():
        resource, _, group = name.partition(".")
        yield from ((group, resource, verb) for verb in VERBS)


@pytest.mark.parametrize("layer", ["base", "example"])
def test_the_api_server_accepts_every_object(cluster: Cluster, layer: str) -> None:
    rendered = cluster.api.kubectl("kustomize", str(KUSTOMIZE / layer))
    applied = cluster.api.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=rendered).splitlines()

    objects = [each for each in yaml.safe_load_all(rendered) if each]
    assert len(applied) == len(objects)
    assert all(line.endswith("serverside-applied (server dry run)") for line in applied)


@pytest.mark.parametrize("mode,capable", [("iptables", "NET_RAW"), ("ipvs", "privileged")])
def test_a_component_puts_the_agents_into_another_mode(
    cluster: Cluster, tmp_path: Path, mode: str, capable: str
) -> None:
    layers = {"resources": KUSTOMIZE / "example", "components": KUSTOMIZE / "components" / mode}
    overlay = {kind: [os.path.relpath(path, tmp_path.resolve())] for kind, path in layers.items()}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    rendered = cluster.api.kubectl("kustomize", str(tmp_path))
    cluster.api.kubectl("apply", "--server-side", "--dry-run=server", "-f", "-", stdin=rendered)

    agent = next(each for each in yaml.safe_load_all(rendered) if each["kind"] == "DaemonSet")["spec"]["template"]
    container = agent["spec"]["containers"][0]
    assert [flag for flag in container["args"] if "proxy-mode" in flag] == [f"--proxy-mode={mode}"]
    assert capable in json.dumps(container["securityContext"])
    assert "xtables-lock" in {volume["name"] for volume in agent["spec"]["volumes"]}


def test_the_role_gives_get_list_and_watch_of_what_is_watched_new_events_and_nothing_else(cluster: Cluster) -> None:
    wanted = {(*kind, verb) for kind in WATCHED for verb in ("get", "list", "watch")} | {("", "events", "create")}
    assert eventually(lambda: all(allows(cluster.api, ACCOUNT, each) for each in wanted))

    has = {each for each in every_permission(cluster.api) if allows(cluster.api, ACCOUNT, each)}
    everybody = {each for each in every_permission(cluster.api) if allows(cluster.api, "nobody-in-particular", each)}

    assert has - everybody == wanted


def test_the_agents_account_may_do_nothing_more_than_everybody(cluster: Cluster) -> None:
    extra = [
        each
        for each in every_permission(cluster.api)
        if allows(cluster.api, "deltaplane-agent", each) and not allows(cluster.api, "nobody-in-particular", each)
    ]

    assert extra == []


def without(objects: list[dict[str, Any]], resource: str, verb: str, name: str) -> list[dict[str, Any]]:
    """The control plane's account, role and binding under another name, less one permission."""
    mine = {each["kind"]: copy.deepcopy(each) for each in objects if each["metadata"]["name"] == ACCOUNT}
    account, role, binding = (mine[kind] for kind in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding"))
    for each in (account, role, binding, binding["roleRef"], binding["subjects"][0]):
        each.get("metadata", each)["name"] = name
    role["rules"] = [
        rule | {"resources": [kind], "verbs": [each for each in rule["verbs"] if (kind, each) != (resource, verb)]}
        for rule in role["rules"]
        for kind in rule["resources"]
    ]
    return [account, role, binding]


@pytest.mark.parametrize("group,resource", sorted(WATCHED))
def test_a_control_plane_that_may_not_watch_a_kind_says_which(
    cluster: Cluster, tmp_path: Path, group: str, resource: str
) -> None:
    account = f"without-{resource}"
    cluster.api.grant(without(cluster.api.kustomize(KUSTOMIZE / "base"), resource, "watch", account))
    assert eventually(lambda: allows(cluster.api, account, (group, resource, "list")))
    assert not allows(cluster.api, account, (group, resource, "watch"))
    kubeconfig = cluster.api.kubeconfig(account, NAMESPACE)
    plane = ControlPlane(
        cluster.fabric.controlplane,
        tmp_path,
        f"--kubeconfig={kubeconfig}",
        name=account,
    )

    try:
        plane.start()
        assert plane.process is not None
        plane.process.wait_log(rf"(?i)cannot watch resource .{{0,2}}{resource}")
    finally:
        plane.close()
