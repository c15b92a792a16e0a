"""What the manifests promise about privilege, probes and addresses, checked as written."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

import controlplane.settings
import nodeagent.config
from controlplane.certificates.objects import KINDS
from controlplane.certificates.stored import CONFIG_MAP, FILE
from controlplane.identity.reviews import RIGHTS, TOKENS
from controlplane.identity.rights import GROUP, NEEDED, Right
from controlplane.peers import Peers, Plain
from controlplane.reached import Reached
from controlplane.replica_places import Alone
from controlplane.source.events import NAMESPACE as EVENTS_NAMESPACE
from controlplane.source.kubernetes import RESOURCES
from operatorcli.connect import cluster, target
from tests.unit.deploy.manifests import BASE, REPOSITORY, container, documents, find, pod

WORKLOADS = [("DaemonSet", "deltaplane-controlplane"), ("DaemonSet", "deltaplane-agent")]
CONTROL_PLANE, AGENT = WORKLOADS
NAMESPACE = "deltaplane-system"


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


def test_the_agent_has_net_admin_alone_and_no_token_for_the_api_server() -> None:
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


def agent_settings() -> nodeagent.config.AgentSettings:
    _, *run = container(*AGENT)["args"]
    values = {"$(DELTAPLANE_SERVER)": "192.0.2.10:50051,192.0.2.11:50051", "$(CLUSTER_CIDR)": "10.244.0.0/16"}
    values |= {"$(NODE_NAME)": "node-1", "$(HOST_IP)": "192.0.2.1", "$(CLUSTER)": "default"}
    for variable, value in values.items():
        run = [each.replace(variable, value) for each in run]
    return nodeagent.config.parse(run)


def control_plane_settings() -> controlplane.settings.Settings:
    _, *served = container(*CONTROL_PLANE)["args"]
    values = {"$(NAMESPACE)": NAMESPACE, "$(HOST_IP)": "192.0.2.10"}
    for variable, value in values.items():
        served = [each.replace(variable, value) for each in served]
    return controlplane.settings.parse(served)


def test_both_programs_accept_the_arguments_they_are_given() -> None:
    assert control_plane_settings().source == "kubernetes"
    assert agent_settings().task is nodeagent.config.Task.RUN


def test_agents_of_two_nodes_or_clusters_on_one_machine_have_two_folders_on_the_host() -> None:
    (mount,) = [each["mountPath"] for each in container(*AGENT)["volumeMounts"] if each["name"] == "state"]

    assert f"--state-dir={mount}/$(CLUSTER)/$(NODE_NAME)" in container(*AGENT)["args"]
    assert agent_settings().state_dir == "/var/lib/deltaplane/default/node-1"


def test_the_init_container_has_what_the_kernels_settings_need_and_nothing_else() -> None:
    (only,) = pod(*AGENT)["initContainers"]
    _, *run = only["args"]
    settings = nodeagent.config.parse(run)
    volumes = {each["name"]: each.get("hostPath") for each in pod(*AGENT)["volumes"]}

    assert settings.task is nodeagent.config.Task.INIT
    assert settings.proxy_mode == agent_settings().proxy_mode
    assert settings.conntrack == agent_settings().conntrack
    assert only["securityContext"] == container(*AGENT)["securityContext"]
    (mount,) = only["volumeMounts"]
    assert mount["mountPath"] == f"{settings.sysctl_root}/proc/sys/net"
    assert volumes[mount["name"]] == {"path": "/proc/sys/net", "type": "Directory"}
    assert mount["name"] not in [each["name"] for each in container(*AGENT)["volumeMounts"]]


def test_a_setting_that_cannot_be_made_does_not_keep_an_agent_from_starting(tmp_path: Path) -> None:
    (only,) = pod(*AGENT)["initContainers"]
    program = tmp_path / "deltaplane"
    program.write_text('#!/bin/sh\necho "$@"\nexit 1\n')
    program.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(
        [*only["command"], *only["args"]], env=environment, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout.strip()) == (0, " ".join(only["args"]))
    assert "going on without" in done.stderr


def test_the_agent_finds_its_token_and_what_it_believes_where_volumes_have_them() -> None:
    places = [each["mountPath"] + "/" for each in container(*AGENT)["volumeMounts"]]
    files = [each.partition("=")[2] for each in container(*AGENT)["args"] if "-file=" in each]
    (bundle,) = [each["configMap"]["name"] for each in pod(*AGENT)["volumes"] if "configMap" in each]

    assert len(files) == 2
    assert [file for file in files if not file.startswith(tuple(places))] == []
    assert bundle == CONFIG_MAP
    assert f"--server-ca-file=/etc/deltaplane/ca/{FILE}" in container(*AGENT)["args"]


def test_replicas_make_their_own_certificates_for_the_address_that_agents_dial_and_the_services_name() -> None:
    own = control_plane_settings().security.own

    assert own is not None
    assert own.namespace == NAMESPACE
    assert own.names == (
        "192.0.2.10",
        f"{find('Service', 'deltaplane-controlplane')['metadata']['name']}.{NAMESPACE}.svc",
    )
    assert {each["name"] for each in pod(*CONTROL_PLANE)["volumes"]} == {"ca", "token"}  # no key is on a disk


def test_an_agent_has_no_key_and_its_token_is_for_the_control_plane_alone() -> None:
    volumes = {each["name"]: each for each in pod(*AGENT)["volumes"]}
    (source,) = volumes["token"]["projected"]["sources"]
    security = control_plane_settings().security

    assert source["serviceAccountToken"]["audience"] == security.audience
    assert security.agent_account == f"{NAMESPACE}/{pod(*AGENT)['serviceAccountName']}"
    assert not any("secret" in each for each in volumes.values())


def test_the_replicas_find_each_other_by_their_service_and_are_believed_by_their_account() -> None:
    settings = control_plane_settings()
    service = find("Service", "deltaplane-controlplane")
    (source,) = next(each for each in pod(*CONTROL_PLANE)["volumes"] if each["name"] == "token")["projected"]["sources"]

    assert settings.replicas.service == (NAMESPACE, service["metadata"]["name"])
    assert [port["name"] for port in service["spec"]["ports"]] == ["grpc"]
    assert source["serviceAccountToken"]["audience"] == settings.security.audience
    assert settings.security.peer_account == f"{NAMESPACE}/{pod(*CONTROL_PLANE)['serviceAccountName']}"


def test_agents_are_spread_over_the_replicas_by_the_addresses_that_they_dial() -> None:
    settings = control_plane_settings()
    assert settings.replicas.me == settings.listen == "[192.0.2.10]:50051"
    assert Reached(Peers(Alone(), Plain(), "me"), settings.replicas.me).me == "192.0.2.10:50051"


def test_agents_dial_addresses_and_never_a_name_or_address_that_needs_them() -> None:
    (config,) = yaml.safe_load((BASE / "kustomization.yaml").read_text())["configMapGenerator"]
    servers = dict(each.split("=", 1) for each in config["literals"])["server"].split(",")

    assert all(re.fullmatch(r"\d+\.\d+\.\d+\.\d+:50051", each) for each in servers)
    assert pod(*AGENT)["dnsPolicy"] == pod(*CONTROL_PLANE)["dnsPolicy"] == "Default"


def test_the_control_plane_asks_the_api_server_of_its_host() -> None:
    (host,) = [each for each in container(*CONTROL_PLANE)["env"] if each["name"] == "KUBERNETES_SERVICE_HOST"]

    assert pod(*CONTROL_PLANE)["hostNetwork"] is True
    assert host["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


@pytest.mark.parametrize("kind,name,flag", [(*CONTROL_PLANE, "--health-listen"), (*AGENT, "--health-listen")])
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


def test_there_is_a_replica_on_each_control_plane_node_and_one_is_replaced_at_a_time() -> None:
    spec = find(*CONTROL_PLANE)["spec"]

    assert "replicas" not in spec
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}  # its port is the node's
    assert "nodeSelector" not in pod(*CONTROL_PLANE)
    only = pod(*CONTROL_PLANE)["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    label = {"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}  # kubeadm: "", k3s and RKE2: "true"
    assert only == {"nodeSelectorTerms": [{"matchExpressions": [label]}]}
    assert pod(*CONTROL_PLANE)["tolerations"] == [{"operator": "Exists"}]


def test_no_disruption_budget_refuses_a_drain() -> None:
    assert [each for each in documents() if each["kind"] == "PodDisruptionBudget"] == []


def test_the_control_plane_listens_on_its_hosts_address_alone() -> None:
    listening = [each.partition("=")[2] for each in container(*CONTROL_PLANE)["args"] if "listen=" in each]
    (host,) = [each for each in container(*CONTROL_PLANE)["env"] if each["name"] == "HOST_IP"]

    assert len(listening) == 2
    assert all(each.startswith("[$(HOST_IP)]:") for each in listening)
    assert host["valueFrom"] == {"fieldRef": {"fieldPath": "status.hostIP"}}


def test_the_replicas_have_a_headless_service() -> None:
    service = find("Service", "deltaplane-controlplane")["spec"]
    labels = find(*CONTROL_PLANE)["spec"]["template"]["metadata"]["labels"]

    assert service["clusterIP"] == "None"
    assert service["selector"].items() <= labels.items()


def test_the_cluster_role_reads_four_kinds_and_writes_nothing() -> None:
    granted = {
        (group, resource): set(rule["verbs"])
        for rule in find("ClusterRole", "deltaplane-controlplane")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }

    assert granted.pop(("", "namespaces")) == {"get"}
    for review in (TOKENS, RIGHTS):  # questions, of which nothing is kept
        assert granted.pop((review.group, review.plural)) == {"create"}
    named = [rule for rule in find("ClusterRole", "deltaplane-controlplane")["rules"] if "resourceNames" in rule]
    assert [(rule["resources"], rule["resourceNames"]) for rule in named] == [(["namespaces"], ["kube-system"])]
    assert granted == {(kind.group, kind.plural): {"get", "list", "watch"} for kind in RESOURCES.values()}
    assert len(granted) == 4


def rules(name: str) -> list[tuple[str, str, str | None, str]]:
    """Group, resource, name and verb of each right that a Role gives."""
    return sorted(
        (group, resource, named, verb)
        for rule in find("Role", name)["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for named in rule.get("resourceNames", [""])
        for verb in rule["verbs"]
    )


def test_events_are_written_into_one_namespace() -> None:
    assert find("Role", "deltaplane-controlplane-events")["metadata"]["namespace"] == EVENTS_NAMESPACE
    assert find("RoleBinding", "deltaplane-controlplane-events")["metadata"]["namespace"] == EVENTS_NAMESPACE
    assert rules("deltaplane-controlplane-events") == [("", "events", "", "create")]


def test_of_secrets_config_maps_and_leases_those_of_the_authority_alone_are_read_and_changed() -> None:
    assert "namespace" not in find("Role", "deltaplane-controlplane-certificates")["metadata"]  # its own
    assert rules("deltaplane-controlplane-certificates") == sorted(
        (group, plural, named, verb)
        for name, (group, _, plural) in KINDS.items()
        for named, verb in ((name, "get"), (name, "update"), ("", "create"))
    )


def test_only_the_control_plane_and_the_commands_account_are_bound_to_a_role() -> None:
    bindings = [each for each in documents() if each["kind"].endswith("RoleBinding")]
    subjects: list[dict[str, Any]] = [subject for each in bindings for subject in each["subjects"]]

    assert {each["name"] for each in subjects} == {"deltaplane-controlplane", "deltaplane-inspector"}
    assert {each["namespace"] for each in subjects} == {NAMESPACE}


def test_the_commands_account_has_rights_that_the_api_server_has_no_objects_for() -> None:
    rules = find("ClusterRole", "deltaplane-inspector")["rules"]

    assert {group for rule in rules for group in rule["apiGroups"]} == {GROUP}
    assert find("ServiceAccount", "deltaplane-inspector")["automountServiceAccountToken"] is False


def test_the_manifests_grant_every_right_that_a_replica_asks_for() -> None:
    granted = {
        Right(verb, resource)
        for name in ("deltaplane-inspector", "deltaplane-operator")
        for rule in find("ClusterRole", name)["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }

    assert set(NEEDED.values()) <= granted


def test_a_person_may_make_tokens_of_the_account_that_the_command_names() -> None:
    rules = {rule["resources"][0]: rule for rule in find("Role", "deltaplane-command")["rules"]}

    assert target.account(target.ACCOUNT) == (target.SYSTEM, rules["serviceaccounts/token"]["resourceNames"][0])
    assert rules["configmaps"]["resourceNames"] == [cluster.AUTHORITIES]
    assert set(rules) == {"pods", "pods/portforward", "configmaps", "serviceaccounts/token"}


def test_the_image_is_built_from_locked_packages_and_is_not_root_by_default() -> None:
    recipe = (REPOSITORY / "deploy" / "image" / "Dockerfile").read_text()

    assert "--require-hashes" in recipe
    assert re.findall(r"^USER (.*)$", recipe, re.MULTILINE)[-1] == "65532:65532"


def test_what_the_image_is_made_of_is_let_through_to_the_build() -> None:
    recipe = (REPOSITORY / "deploy" / "image" / "Dockerfile").read_text()
    let = (REPOSITORY / "deploy" / "image" / "Dockerfile.dockerignore").read_text().splitlines()
    sources = [
        word for line in re.findall(r"^COPY (?!--from)(.*)$", recipe, re.MULTILINE) for word in line.split()[:-1]
    ]

    assert sources
    assert [source for source in sources if f"!{source}" not in let] == []
