"""`deltaplane doctor` as it is typed: where kube-proxy's configuration comes from, what is written, how it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

import nodeagent.config
from nodeagent.doctor import Machine, machine, process
from operatorcli.exits import Exit
from tests.operatorcli import fake_cluster
from tests.operatorcli.fake_cluster import Api
from tests.operatorcli.world import Command

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


@pytest.fixture
def deltaplane(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Command:
    """On a node without anything special, where no kube-proxy runs and nobody has a kubeconfig."""
    monkeypatch.setattr(machine, "read", Machine)
    monkeypatch.setattr(process, "kube_proxy", lambda: None)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.chdir(tmp_path)
    return Command({"COLUMNS": "100"}, capsys, monkeypatch)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[tuple[Api, Path]]:
    """An API server with kubeadm's kube-proxy, and a kubeconfig."""
    found = Api("", 0)
    with fake_cluster.serving(found, tmp_path) as kubeconfig:
        yield found, kubeconfig


def test_a_node_without_anything_special_ends_with_0_and_says_so(deltaplane: Command) -> None:
    said = deltaplane("doctor")

    assert said.code == Exit.YES, said.err
    assert "Nothing to act on before the move." in said.out
    assert "kube-proxy: not found" in said.out


def test_a_finding_that_needs_somebody_ends_with_1_and_is_told_apart_in_json(
    deltaplane: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "read", lambda: Machine(links=frozenset({"bpfin.cali", "kube-ipvs0"})))

    said = deltaplane("doctor", "-o", "json")

    found = {each["id"]: each["severity"] for each in json.loads(said.out)["findings"]}
    assert said.code == Exit.NO
    assert found == {"calico-ebpf": "act", "leftovers": "know"}


def test_the_daemonset_and_its_config_map_are_read_of_the_cluster(deltaplane: Command, api: tuple[Api, Path]) -> None:
    said = deltaplane("doctor", f"--kubeconfig={api[1]}", "-o", "yaml")

    report = yaml.safe_load(said.out)
    assert report["kube_proxy"] == "DaemonSet kube-system/kube-proxy, ConfigMap kube-system/kube-proxy, config.conf"
    assert report["settings"][0]["theirs"] == "ipvs"
    assert said.code == Exit.YES, said.err


def test_what_is_wrong_with_the_config_map_is_named_with_field_and_reason(
    deltaplane: Command, api: tuple[Api, Path]
) -> None:
    api[0].kube_proxy = f"{HEAD}conntrack: {{min: lots}}\n"

    said = deltaplane("doctor", f"--kubeconfig={api[1]}")

    assert said.code == Exit.USAGE
    assert "ConfigMap kube-system/kube-proxy, config.conf" in said.err
    assert "conntrack.min: expected `int`, got `str`" in said.err


@pytest.mark.parametrize(("status", "code", "text"), [
    (404, Exit.UNREACHED, "cannot get the DaemonSet kube-system/kube-proxy: it is not there (404)"),
    (403, Exit.FORBIDDEN, "you may not get the DaemonSet kube-system/kube-proxy"),
])  # fmt: skip
def test_a_cluster_that_does_not_answer_is_no_node_without_kube_proxy(
    deltaplane: Command, api: tuple[Api, Path], status: int, code: Exit, text: str
) -> None:
    api[0].refused = {"/daemonsets/kube-proxy": status}

    said = deltaplane("doctor", f"--kubeconfig={api[1]}")

    assert said.code == code
    assert text in said.err
    assert "in kube-system" in said.err or status == 404


def test_the_files_that_are_written_are_taken_by_the_agent(deltaplane: Command, tmp_path: Path) -> None:
    (tmp_path / "kp.conf").write_text(f"{HEAD}mode: iptables\niptables: {{masqueradeAll: true}}\n")

    said = deltaplane("doctor", "--kube-proxy=kp.conf", "--no-node", "--write=a.conf", "--write-component=c")

    settings = [
        nodeagent.config.parse(["--server=192.0.2.1:1", "--insecure", f"--config={path}"])
        for path in ("a.conf", "c/agent.conf")
    ]
    assert said.code == Exit.YES, said.err
    assert [each.masquerade_all for each in settings] == [True, True]
    assert yaml.safe_load((tmp_path / "c/kustomization.yaml").read_text())["kind"] == "Component"


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--kube-proxy=gone.conf"], "--kube-proxy=gone.conf: No such file or directory"),
        (["--kube-proxy=node"], "no kube-proxy runs in this network namespace"),
        (["--proxy-mode=ebpf"], "--proxy-mode=ebpf is no mode"),
    ],
)
def test_wrong_usage_says_what_is_wrong(deltaplane: Command, flags: list[str], text: str) -> None:
    said = deltaplane("doctor", *flags)

    assert said.code == Exit.USAGE
    assert text in said.err


def test_a_place_that_cannot_be_written_is_named(deltaplane: Command) -> None:
    said = deltaplane("doctor", "--no-node", "--write=/nowhere/a.conf")

    assert said.code == Exit.FAILED
    assert "/nowhere/a.conf cannot be written: No such file or directory" in said.err
