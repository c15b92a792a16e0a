"""The manifests that clean the nodes after an uninstallation undo what the base does there, with no more rights."""

from __future__ import annotations

from typing import Any

import yaml

import nodeagent.config
from nodeagent.config.settings import Task
from tests.unit.deploy.manifests import REPOSITORY, pod

FOLDER = REPOSITORY / "deploy" / "kustomize" / "cleanup"


def cleaning_pod() -> dict[str, Any]:
    """The pod of the DaemonSet."""
    documents = yaml.safe_load_all((FOLDER / "cleanup.yaml").read_text())
    (workload,) = [document for document in documents if document["kind"] == "DaemonSet"]
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


def test_it_runs_where_the_agents_ran_on_the_network_of_the_node() -> None:
    agent, cleaning = pod("DaemonSet", "deltaplane-agent"), cleaning_pod()

    for key in ("hostNetwork", "tolerations", "priorityClassName", "dnsPolicy", "automountServiceAccountToken"):
        assert cleaning[key] == agent[key]


def test_the_agent_is_asked_to_clean_up_and_to_take_the_state_it_kept() -> None:
    (first,) = cleaning_pod()["initContainers"]
    settings = nodeagent.config.parse(first["args"][1:])
    (agent,) = pod("DaemonSet", "deltaplane-agent")["containers"]
    state = [word for word in agent["args"] if word.startswith("--state-dir=")]

    assert settings.task is Task.CLEANUP
    assert [word for word in first["args"] if word.startswith("--state-dir=")] == state
    assert {each["name"] for each in first["env"]} == {"NODE_NAME", "CLUSTER"}
    assert {"name": "state", "mountPath": "/var/lib/deltaplane"} in first["volumeMounts"]
    kept = [volume for volume in pod("DaemonSet", "deltaplane-agent")["volumes"] if volume["name"] == "state"]
    assert [volume for volume in cleaning_pod()["volumes"] if volume["name"] == "state"] == kept


def test_it_can_do_what_an_agent_can_do_and_what_stays_can_do_nothing() -> None:
    (first,), (stays,) = cleaning_pod()["initContainers"], cleaning_pod()["containers"]

    for each in (first, stays):
        assert each["securityContext"]["readOnlyRootFilesystem"] is True
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert first["securityContext"]["capabilities"]["add"] == ["NET_ADMIN", "NET_RAW"]
    assert "add" not in stays["securityContext"]["capabilities"]
    assert stays["securityContext"]["runAsNonRoot"] is True


def test_agents_that_may_remove_what_iptables_legacy_left_have_what_the_cleaning_pod_has_for_it() -> None:
    folder = REPOSITORY / "deploy" / "kustomize" / "components" / "legacy-leftovers"
    (patch,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]
    added = {each["path"].rpartition("/spec/")[2]: each["value"] for each in yaml.safe_load(patch["patch"])}
    (first,) = cleaning_pod()["initContainers"]
    (lock,) = [volume for volume in cleaning_pod()["volumes"] if volume["name"] == "xtables-lock"]

    assert added["containers/0/securityContext/capabilities/add/-"] in first["securityContext"]["capabilities"]["add"]
    assert added["containers/0/volumeMounts/-"] in first["volumeMounts"]
    assert added["volumes/-"] == lock
