"""What the manifests promise about privilege, probes and addresses, checked as written."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

import controlplane.settings
import nodeagent.config
from controlplane.source.kubernetes import RESOURCES
from tests.unit.deploy.manifests import BASE, REPOSITORY, container, documents, find, pod

WORKLOADS = [("Deployment", "deltaplane-controlplane"), ("DaemonSet", "deltaplane-agent")]
CONTROL_PLANE, AGENT = WORKLOADS


def test_every_file_of_the_base_is_listed() -> None:
    listed = yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]

    assert sorted(listed) == sorted(path.name for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")


@pytest.mark.parametrize("kind,name", WORKLOADS)
def test_a_container_cannot_write_its_root_nor_gain_privilege(kind: str, name: str) -> None:
    security = container(kind, name)["securityContext"]

    assert security["readOnlyRootFilesystem"] is True
    assert security["allowPrivilegeEscalation"] is False
    assert "privileged" not in security
    assert security["capabilities"]["drop"] == ["ALL"]
    assert pod(kind, name)["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}


def test_the_control_plane_has_no_capability_and_is_not_root() -> None:
    assert "add" not in container(*CONTROL_PLANE)["securityContext"]["capabilities"]
    assert pod(*CONTROL_PLANE)["securityContext"]["runAsNonRoot"] is True


def test_the_agent_has_net_admin_alone_and_no_token() -> None:
    assert container(*AGENT)["securityContext"]["capabilities"]["add"] == ["NET_ADMIN"]
    assert pod(*AGENT)["automountServiceAccountToken"] is False
    assert find("ServiceAccount", "deltaplane-agent")["automountServiceAccountToken"] is False


def test_the_agent_runs_on_every_node_on_its_network_under_the_name_of_the_node() -> None:
    spec, only = pod(*AGENT), container(*AGENT)
    (node,) = [each for each in only["env"] if each["name"] == "NODE_NAME"]

    assert spec["hostNetwork"] is True
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert spec["priorityClassName"] == "system-node-critical"
    assert node["valueFrom"] == {"fieldRef": {"fieldPath": "spec.nodeName"}}
    assert "--hostname-override=$(NODE_NAME)" in only["args"]


def test_every_variable_of_an_argument_is_declared() -> None:
    for kind, name in WORKLOADS:
        only = container(kind, name)
        used = set(re.findall(r"\$\(([A-Z_]+)\)", " ".join(only["args"])))

        assert used <= {each["name"] for each in only["env"]}


def agent_settings() -> nodeagent.config.Settings:
    _, *run = container(*AGENT)["args"]
    values = {"$(DELTAPLANE_SERVER)": "192.0.2.10:50051,192.0.2.11:50051", "$(CLUSTER_CIDR)": "10.244.0.0/16"}
    values["$(NODE_NAME)"] = "node-1"
    for variable, value in values.items():
        run = [each.replace(variable, value) for each in run]
    return nodeagent.config.parse(run)


def test_both_programs_accept_the_arguments_they_are_given() -> None:
    _, *served = container(*CONTROL_PLANE)["args"]

    assert controlplane.settings.parse(served).source == "kubernetes"
    assert agent_settings().state_dir == "/var/lib/deltaplane"


def test_agents_dial_addresses_and_never_a_name_or_address_that_needs_them() -> None:
    (config,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    servers = dict(each.split("=", 1) for each in config["literals"])["server"].split(",")

    assert len(servers) == find(*CONTROL_PLANE)["spec"]["replicas"] == 3
    assert all(re.fullmatch(r"\d+\.\d+\.\d+\.\d+:50051", each) for each in servers)
    assert pod(*AGENT)["dnsPolicy"] == pod(*CONTROL_PLANE)["dnsPolicy"] == "Default"


def test_the_control_plane_asks_the_api_server_of_its_host() -> None:
    (host,) = [each for each in container(*CONTROL_PLANE)["env"] if each["name"] == "KUBERNETES_SERVICE_HOST"]

    assert pod(*CONTROL_PLANE)["hostNetwork"] is True
    assert host["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


@pytest.mark.parametrize("kind,name,flag", [(*CONTROL_PLANE, "--listen"), (*AGENT, "--health-listen")])
def test_every_probe_asks_the_grpc_health_service_where_the_program_listens(kind: str, name: str, flag: str) -> None:
    only = container(kind, name)
    (listen,) = [each for each in only["args"] if each.startswith(f"{flag}=")]
    port = int(listen.rsplit(":", 1)[1])

    assert [only[f"{probe}Probe"]["grpc"]["port"] for probe in ("startup", "readiness", "liveness")] == [port] * 3
    assert port in [each["containerPort"] for each in only["ports"]]


def test_every_port_an_agent_takes_is_declared_and_in_the_manual() -> None:
    settings = agent_settings()
    listening = (settings.healthz_address, settings.metrics_address, settings.health_listen)
    taken = {int(address.rsplit(":", 1)[1]) for address in listening if address}
    manual = (REPOSITORY / "docs" / "operating.md").read_text()

    assert {each["containerPort"] for each in container(*AGENT)["ports"]} == taken
    assert [port for port in taken if f"| {port} |" not in manual] == []


def test_both_programs_are_as_talkative_as_kube_proxy_unless_told_otherwise() -> None:
    served, run = controlplane.settings.parse(["--insecure"]), nodeagent.config.parse(["--server=a:1", "--insecure"])

    assert served.verbosity == run.verbosity == 0
    assert (REPOSITORY / "docs" / "operating.md").read_text().count("Log verbosity. Default `0`") == 2


def test_a_replica_of_the_control_plane_leaves_only_one_at_a_time() -> None:
    assert find("PodDisruptionBudget", "deltaplane-controlplane")["spec"]["maxUnavailable"] == 1
    assert find(*CONTROL_PLANE)["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_replicas_have_a_headless_service() -> None:
    service = find("Service", "deltaplane-controlplane")["spec"]
    labels = find(*CONTROL_PLANE)["spec"]["template"]["metadata"]["labels"]

    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= labels.items()


def test_the_role_reads_four_kinds_and_writes_events_alone() -> None:
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in find("ClusterRole", "deltaplane-controlplane")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert granted.pop(("", "events")) == {"create"}
    assert granted.pop(("", "namespaces")) == {"get"}
    named = [rule for rule in find("ClusterRole", "deltaplane-controlplane")["rules"] if "resourceNames" in rule]
    assert [(rule["resources"], rule["resourceNames"]) for rule in named] == [(["namespaces"], ["kube-system"])]
    assert granted == {(kind.group, kind.plural): {"get", "list", "watch"} for kind in RESOURCES.values()}
    assert len(granted) == 4


def test_only_the_control_plane_is_bound_to_a_role() -> None:
    bindings = [each for each in documents() if each["kind"].endswith("RoleBinding")]
    subjects: list[dict[str, Any]] = [subject for each in bindings for subject in each["subjects"]]

    assert [each["name"] for each in subjects] == ["deltaplane-controlplane"]


def test_the_image_is_built_from_locked_packages_and_is_not_root_by_default() -> None:
    recipe = (REPOSITORY / "deploy" / "image" / "Dockerfile").read_text()

    assert "--require-hashes" in recipe
    assert re.findall(r"^USER (.*)$", recipe, re.MULTILINE)[-1] == "65532:65532"
