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

import controlplane.settings
from controlplane.certificates.objects import KINDS
from controlplane.certificates.stored import CONFIG_MAP, FILE
from controlplane.identity.reviews import RIGHTS, TOKENS
from tests.e2e.conftest import Cluster
from tests.unit.deploy.manifests import REPOSITORY
from tools.lab import netns, parts, rules
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import ControlPlane
from tools.lab.process import Process

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


def allows(api: ApiServer, account: str, permission: Permission, **where: str) -> bool:
    """What the API server's own authoriser answers for this ServiceAccount. `where`: namespace and name; else all."""
    group, resource, verb = permission
    attributes = {"group": group, "resource": resource, "verb": verb, **where}
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
    applied = cluster.api.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered
    ).splitlines()

    objects = [each for each in yaml.safe_load_all(rendered) if each]
    assert applied
    assert len(applied) == len(objects)
    assert all(line.endswith("serverside-applied (server dry run)") for line in applied)


CRDS = {"cert-manager.io": ("Certificate", "Issuer", "ClusterIssuer"), "trust.cert-manager.io": ("Bundle",)}


def definition(group: str, kind: str) -> dict[str, Any]:
    """A kind as its program's own definition has it, as far as scope and version go."""
    plural = f"{kind.lower()}s"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1alpha1" if kind == "Bundle" else "v1", "served": True, "storage": True}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": kind, "plural": plural},
            "scope": "Cluster" if kind in {"ClusterIssuer", "Bundle"} else "Namespaced",
            "versions": [version | {"schema": {"openAPIV3Schema": schema}}],
        },
    }


@pytest.fixture
def issuers(cluster: Cluster) -> Iterator[None]:
    """What cert-manager and trust-manager bring along, without the programs."""
    made = [definition(group, kind) for group, kinds in CRDS.items() for kind in kinds]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "cert-manager"}}
    cluster.api.kubectl("apply", "-f", "-", stdin=yaml.safe_dump_all([space, *made]))
    names = [f"crd/{each['metadata']['name']}" for each in made]
    cluster.api.kubectl("wait", "--for=condition=Established", "--timeout=60s", *names)
    yield
    cluster.api.kubectl("delete", "--wait=false", *names)


def overlay(cluster: Cluster, folder: Path, component: str) -> str:
    """The example with this component."""
    layers = {"resources": KUSTOMIZE / "example", "components": KUSTOMIZE / "components" / component}
    written = {kind: [os.path.relpath(path, folder.resolve())] for kind, path in layers.items()}
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(written))
    return cluster.api.kubectl("kustomize", str(folder))


OWN_ROLE = "deltaplane-controlplane-certificates"
OTHERS = {
    "--source",
    "--listen",
    "--listen-loopback",
    "--agent-account",
    "--health-listen",
    "--replicas",
    "--peer-account",
    "--advertise",
}
BELIEVED = {"--peer-ca-file", "--peer-token-file"}
WHENCE = {
    "certificate-files": {"--tls-cert-file", "--tls-private-key-file", *BELIEVED},
    "cert-manager": {"--tls-cert-file", "--tls-private-key-file", *BELIEVED},
    "insecure": {"--insecure"},
}


@pytest.mark.usefixtures("issuers")
@pytest.mark.parametrize("component", WHENCE)
def test_a_component_has_certificates_come_from_elsewhere(cluster: Cluster, tmp_path: Path, component: str) -> None:
    rendered = overlay(cluster, tmp_path, component)
    applied = cluster.api.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered
    ).splitlines()
    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(rendered) if each}
    pods = {
        name: objects["DaemonSet", f"deltaplane-{name}"]["spec"]["template"]["spec"]
        for name in ("controlplane", "agent")
    }

    assert len(applied) == len(objects)
    assert ("Role", OWN_ROLE) not in objects
    assert ("RoleBinding", OWN_ROLE) not in objects
    _, *flags = pods["controlplane"]["containers"][0]["args"]
    assert {flag.partition("=")[0] for flag in flags} - OTHERS == WHENCE[component]
    values = [flag.replace("$(NAMESPACE)", "a").replace("$(HOST_IP)", "2001:db8::1") for flag in flags]
    assert controlplane.settings.parse(values).source == "kubernetes"
    for each in pods.values():
        containers = [*each.get("initContainers", ()), *each["containers"]]
        mounted = {mount["name"] for container in containers for mount in container.get("volumeMounts", ())}
        assert mounted == {volume["name"] for volume in each.get("volumes", ())}
    if component == "insecure":
        assert "--insecure" in pods["agent"]["containers"][0]["args"]
        assert not any("-file" in flag for flag in pods["agent"]["containers"][0]["args"])
    if component == "cert-manager":
        made = objects["Certificate", "deltaplane-controlplane"]["spec"]["secretName"]
        secrets = [each["secret"]["secretName"] for each in pods["controlplane"]["volumes"] if "secret" in each]
        assert secrets == [made]
        assert objects["Bundle", CONFIG_MAP]["spec"]["target"]["configMap"] == {"key": FILE}


@pytest.mark.parametrize("mode,capable", [("iptables", "NET_RAW"), ("ipvs", "privileged")])
def test_a_component_puts_the_agents_into_another_mode(
    cluster: Cluster, tmp_path: Path, mode: str, capable: str
) -> None:
    rendered = overlay(cluster, tmp_path, mode)
    cluster.api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered)

    named = ("DaemonSet", "deltaplane-agent")
    agent = next(each for each in yaml.safe_load_all(rendered) if (each["kind"], each["metadata"]["name"]) == named)
    agent = agent["spec"]["template"]
    container = agent["spec"]["containers"][0]
    assert [flag for flag in container["args"] if "proxy-mode" in flag] == [f"--proxy-mode={mode}"]
    assert capable in json.dumps(container["securityContext"])
    (initial,) = agent["spec"]["initContainers"]
    assert [flag for flag in initial["args"] if "proxy-mode" in flag] == [f"--proxy-mode={mode}"]
    assert initial["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    assert "xtables-lock" in {mount["name"] for mount in initial["volumeMounts"]}
    assert "xtables-lock" in {volume["name"] for volume in agent["spec"]["volumes"]}


def test_the_component_endpoints_gives_the_control_plane_its_controllers(cluster: Cluster, tmp_path: Path) -> None:
    layers = {"resources": KUSTOMIZE / "example", "components": KUSTOMIZE / "components" / "endpoints"}
    overlay = {kind: [os.path.relpath(path, tmp_path.resolve())] for kind, path in layers.items()}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    rendered = cluster.api.kubectl("kustomize", str(tmp_path))
    cluster.api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered)

    objects = [each for each in yaml.safe_load_all(rendered) if each]
    plane = next(
        each for each in objects if each["kind"] == "DaemonSet" and "controlplane" in each["metadata"]["name"]
    )["spec"]["template"]["spec"]["containers"][0]
    assert plane["args"][-1] == "--controllers=endpointslice,endpoints"
    assert {"ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"} <= {
        each["kind"] for each in objects if each["metadata"]["name"] == "deltaplane-endpoints"
    }


def test_the_component_jaeger_answers_on_loopback_alone_where_the_control_plane_sends(tmp_path: Path) -> None:
    documents = yaml.safe_load((KUSTOMIZE / "components" / "jaeger" / "jaeger.yaml").read_text())
    (container,) = documents["spec"]["template"]["spec"]["containers"]
    (patch,) = yaml.safe_load((KUSTOMIZE / "components" / "jaeger" / "kustomization.yaml").read_text())["patches"]
    try:
        program = parts.find("jaeger")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))
    space = netns.create("jaeger")
    try:
        rules.run(space, "ip", "link", "set", "lo", "up")
        with Process("jaeger", [program, *container["args"]], tmp_path / "jaeger.log", space) as jaeger:
            jaeger.wait_until(lambda: ":16686" in rules.run(space, "ss", "-Hltn"), 30, "listening")
            listening = [line.split()[3] for line in rules.run(space, "ss", "-Hltn").splitlines()]
            jaeger.kill()
    finally:
        netns.delete(space)

    assert {place.rpartition(":")[0] for place in listening} == {"127.0.0.1"}
    assert f"--otlp-endpoint={listening[0].rpartition(':')[0]}:4317" in patch["patch"]
    assert "127.0.0.1:4317" in listening


@pytest.mark.parametrize(
    ("component", "workload", "flag"),
    [("drain", "agent", "--drain-listen=$(HOST_IPS)"), ("readiness-gate", "controlplane", "--readiness-gate")],
)
def test_a_component_for_rolling_updates_is_taken_and_adds_its_flag(
    cluster: Cluster, tmp_path: Path, component: str, workload: str, flag: str
) -> None:
    rendered = overlay(cluster, tmp_path, component)
    cluster.api.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered)
    objects = [each for each in yaml.safe_load_all(rendered) if each]
    (found,) = [each for each in objects if each["kind"] == "DaemonSet" and workload in each["metadata"]["name"]]
    assert found["spec"]["template"]["spec"]["containers"][0]["args"][-1] == flag
    granted = [each for each in objects if each["metadata"]["name"] == "deltaplane-readiness-gate"]
    assert bool(granted) is (component == "readiness-gate")


def test_the_role_gives_get_list_and_watch_of_what_is_watched_and_nothing_else(cluster: Cluster) -> None:
    wanted = {(*kind, verb) for kind in WATCHED for verb in ("get", "list", "watch")}
    wanted |= {(review.group, review.plural, "create") for review in (TOKENS, RIGHTS)}  # of which nothing is kept
    assert eventually(lambda: all(allows(cluster.api, ACCOUNT, each) for each in wanted))

    has = {each for each in every_permission(cluster.api) if allows(cluster.api, ACCOUNT, each)}
    everybody = {each for each in every_permission(cluster.api) if allows(cluster.api, "nobody-in-particular", each)}

    assert has - everybody == wanted


def test_in_namespaces_it_may_write_events_and_its_own_authority_and_nothing_else(cluster: Cluster) -> None:
    kinds = {"events", "secrets", "configmaps", "leases"}
    permissions = [each for each in every_permission(cluster.api) if each[1] in kinds and each[0] != "events.k8s.io"]

    def granted(namespace: str, name: str = "") -> set[Permission]:
        return {each for each in permissions if allows(cluster.api, ACCOUNT, each, namespace=namespace, name=name)}

    created = {(group, resource, "create") for group, _, resource in KINDS.values()}  # whatever the name
    assert granted("kube-system") == set()
    assert granted("default") == {("", "events", "create")}
    assert granted(NAMESPACE) == created
    for name, (group, _, resource) in KINDS.items():
        assert granted(NAMESPACE, name) == created | {(group, resource, verb) for verb in ("get", "update")}


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
