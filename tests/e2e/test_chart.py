"""The Helm chart gives what deploy/kustomize gives: object by object for each component, and refuses what it cannot.

When a manifest of deploy/kustomize changes, these tests name the field, with what each of the two has there: make the
same change in deploy/chart/templates.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.e2e.conftest import Cluster
from tests.e2e.test_deploy import KUSTOMIZE, issuers
from tests.unit.deploy.manifests import REPOSITORY
from tools.lab import parts

CHART = REPOSITORY / "deploy" / "chart"
EXAMPLE = CHART / "examples" / "example.yaml"
CHARTS_OWN = {"helm.sh/chart", "app.kubernetes.io/managed-by", "app.kubernetes.io/instance"}
PART_OF = "app.kubernetes.io/part-of"  # of the base, and of some components
CHECKSUM = "checksum/config"  # of a ConfigMap whose name stays; kustomize puts a hash into the name instead
COMPONENTS: dict[tuple[str, ...], dict[str, Any]] = {
    (): {},
    ("iptables",): {"proxyMode": "iptables"},
    ("ipvs",): {"proxyMode": "ipvs"},
    ("certificate-files",): {"certificates": {"source": "files"}},
    ("cert-manager",): {"certificates": {"source": "cert-manager"}},
    ("insecure",): {"certificates": {"source": "insecure"}},
    ("endpoints",): {"controlPlane": {"controllers": ["endpointslice", "endpoints"]}},
    ("jaeger",): {"tracing": {"jaeger": {"enabled": True}}},
    ("drain",): {"agent": {"drain": True}},
    ("readiness-gate",): {"controlPlane": {"readinessGate": True}},
    ("legacy-leftovers",): {"agent": {"legacyLeftovers": True}},
    ("beside-kube-proxy",): {"besideKubeProxy": {"enabled": True}},
    ("chosen-nodes",): {"agent": {"nodeSelector": {"deltaplane.dev/proxy": "deltaplane"}}},
    ("insecure", "ipvs", "endpoints", "jaeger"): {
        "certificates": {"source": "insecure"},
        "proxyMode": "ipvs",
        "controlPlane": {"controllers": ["endpointslice", "endpoints"]},
        "tracing": {"jaeger": {"enabled": True}},
    },
}
Objects = dict[tuple[str, str, str], dict[str, Any]]
__all__ = ["issuers"]  # a fixture


def program(name: str) -> Path:
    try:
        return parts.find(name)
    except parts.PartMissing as missing:
        pytest.skip(str(missing))


def helm(*arguments: str | Path, values: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """Whatever it says, with these values last."""
    command: list[str | Path] = [program("helm"), *arguments, "-f", "-"]
    said = yaml.safe_dump(values or {})
    return subprocess.run(command, input=said, capture_output=True, text=True, check=False)


def template(values: dict[str, Any] | None = None, *, base: Sequence[str | Path] = ("-f", EXAMPLE)) -> str:
    done = helm("template", "deltaplane", CHART, *base, values=values)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomize(folder: Path, components: Sequence[str], resource: str = "example") -> str:
    """The example with these components, as an operator's overlay has it."""
    overlay: dict[str, list[str]] = {"resources": [os.path.relpath(KUSTOMIZE / resource, folder.resolve())]}
    overlay["components"] = [os.path.relpath(KUSTOMIZE / "components" / each, folder.resolve()) for each in components]
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(overlay))
    command: list[str | Path] = [program("kubectl"), "kustomize", folder]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def objects(text: str) -> Objects:
    """By kind, namespace and name, without what differs by design."""
    found: Objects = {}
    for thing in filter(None, yaml.safe_load_all(text)):
        metadata = thing["metadata"]
        labels = metadata.pop("labels", {})
        labels = {key: value for key, value in labels.items() if key not in {*CHARTS_OWN, PART_OF}}
        metadata |= {"labels": labels} if labels else {}
        metadata["name"] = plain(metadata["name"])
        found[thing["kind"], metadata.get("namespace", ""), metadata["name"]] = unsummed(thing)
    return found


def plain(name: str) -> str:
    """A ConfigMap's name without kustomize's hash."""
    return "deltaplane-agent" if name.startswith("deltaplane-agent-") else name


def unsummed(thing: dict[str, Any]) -> dict[str, Any]:
    """A workload that names the ConfigMap without its hash, and has no checksum of it."""
    if thing["kind"] == "DaemonSet":
        template = thing["spec"]["template"]
        annotations = template["metadata"].get("annotations", {})
        annotations.pop(CHECKSUM, None)
        if not annotations:
            template["metadata"].pop("annotations", None)
        for container in template["spec"]["containers"]:
            for variable in container.get("env", ()):
                if "configMapKeyRef" in variable.get("valueFrom", {}):
                    variable["valueFrom"]["configMapKeyRef"]["name"] = plain(
                        variable["valueFrom"]["configMapKeyRef"]["name"]
                    )
    return thing


def differences(kustomized: object, charted: object, path: str = "") -> Iterator[str]:
    """Each field that the two do not have alike, a line each."""
    if isinstance(kustomized, dict) and isinstance(charted, dict):
        for key in sorted({*kustomized, *charted}, key=str):
            yield from differences(kustomized.get(key, "nothing"), charted.get(key, "nothing"), f"{path}.{key}")
    elif isinstance(kustomized, list) and isinstance(charted, list) and len(kustomized) == len(charted):
        for index, (one, other) in enumerate(zip(kustomized, charted, strict=True)):
            yield from differences(one, other, f"{path}[{index}]")
    elif isinstance(kustomized, list) and isinstance(charted, list):
        ours = [each for each in charted if each not in kustomized]
        theirs = [each for each in kustomized if each not in charted]
        yield f"{path}: only in kustomize {theirs}, only in the chart {ours}"
    elif kustomized != charted:
        yield f"{path}: kustomize has {kustomized!r}, the chart {charted!r}"


def compared(kustomized: Objects, charted: Objects) -> list[str]:
    lines = [f"{'/'.join(key)} is in kustomize only" for key in kustomized.keys() - charted.keys()]
    lines += [f"{'/'.join(key)} is in the chart only" for key in charted.keys() - kustomized.keys()]
    for key in kustomized.keys() & charted.keys():
        lines += [f"{'/'.join(key)} {line}" for line in differences(kustomized[key], charted[key])]
    return sorted(lines)


def test_every_component_is_compared() -> None:
    folders = {path.name for path in (KUSTOMIZE / "components").iterdir()}

    assert folders == {name for components in COMPONENTS for name in components}


@pytest.mark.parametrize("components", COMPONENTS, ids=lambda each: "+".join(each) or "example")
def test_the_chart_gives_the_same_objects_as_kustomize(tmp_path: Path, components: tuple[str, ...]) -> None:
    values = dict(COMPONENTS[components])
    addresses = ["198.51.100.1", "198.51.100.2", "198.51.100.3"]
    if "cert-manager" in components:  # whose overlay patches the addresses into the Certificate
        addresses = ["192.0.2.10", "192.0.2.11", "192.0.2.12"]
    kustomized = kustomize(tmp_path, components)
    kustomized = kustomized.replace("198.51.100.1", addresses[0]).replace("198.51.100.2", addresses[1])
    kustomized = kustomized.replace("198.51.100.3", addresses[2])
    values["controlPlane"] = {"addresses": addresses} | values.get("controlPlane", {})

    found = compared(objects(kustomized), objects(template(values)))
    assert not found, "\n".join(["make the same change in deploy/chart/templates:", *found])


def test_the_chart_gives_the_base_from_its_default_values(tmp_path: Path) -> None:
    values = {
        "clusterCIDRs": ["10.244.0.0/16"],
        "controlPlane": {"addresses": ["192.0.2.10", "192.0.2.11", "192.0.2.12"]},
    }

    found = compared(objects(kustomize(tmp_path, (), "base")), objects(template(values, base=())))
    assert not found, "\n".join(["make the same change in deploy/chart:", *found])


def test_a_difference_is_named_with_what_both_have() -> None:
    one = {("DaemonSet", "a", "b"): {"args": ["--x", "--y"], "spec": {"port": 1}}, ("Role", "", "r"): {}}
    other = {("DaemonSet", "a", "b"): {"args": ["--x"], "spec": {"port": 2}}}

    assert compared(one, other) == [
        "DaemonSet/a/b .args: only in kustomize ['--y'], only in the chart []",
        "DaemonSet/a/b .spec.port: kustomize has 1, the chart 2",
        "Role//r is in kustomize only",
    ]


def test_lint_finds_nothing_even_when_it_is_strict() -> None:
    done = helm("lint", "--strict", CHART, "-f", EXAMPLE)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "[WARNING]" not in done.stdout


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "no addresses": ({"controlPlane": {"addresses": []}}, "controlPlane.addresses: set the addresses"),
    "no ranges": ({"clusterCIDRs": []}, "clusterCIDRs: set the Pods' address ranges"),
    "a range without a length": ({"clusterCIDRs": ["10.0.0.0"]}, "/clusterCIDRs/0"),
    "two ranges of a family": ({"clusterCIDRs": ["10.0.0.0/16", "10.1.0.0/16"]}, "are of one family"),
    "three ranges": ({"clusterCIDRs": ["10.0.0.0/16", "fd00::/64", "10.1.0.0/16"]}, "/clusterCIDRs"),
    "an unknown mode": ({"proxyMode": "ebpf"}, "'nftables', 'iptables', 'ipvs'"),
    "an unknown source": ({"certificates": {"source": "vault"}}, "'own', 'cert-manager', 'files', 'insecure'"),
    "a misspelt value": ({"proxymode": "iptables"}, "'proxymode' not allowed"),
    "a misspelt inner value": ({"agent": {"resource": {}}}, "'resource' not allowed"),
    "an address with a port": ({"controlPlane": {"addresses": ["192.0.2.1:50051"]}}, "/controlPlane/addresses/0"),
    "a port that is none": ({"controlPlane": {"apiServer": {"port": 70000}}}, "maximum: got 70,000, want 65,535"),
    "a share beyond 1": ({"tracing": {"sampleRatio": 2}}, "maximum: got 2, want 1"),
    "beside kube-proxy in its own mode": (
        {"besideKubeProxy": {"enabled": True}, "proxyMode": "iptables"},
        "in nftables mode, and proxyMode is iptables",
    ),
    "two places for traces": ({"tracing": {"endpoint": "a:1", "jaeger": {"enabled": True}}}, "not both"),
    "no flag": ({"agent": {"extraArgs": ["v=4"]}}, "/agent/extraArgs/0"),
    "a flag and its value apart": ({"agent": {"extraArgs": ["--v 4"]}}, "/agent/extraArgs/0"),
    "an address beyond 255": ({"controlPlane": {"addresses": ["192.0.2.999"]}}, "/controlPlane/addresses/0"),
    "a range beyond 255": ({"clusterCIDRs": ["10.256.0.0/16"]}, "/clusterCIDRs/0"),
    "a URL as the API server": (
        {"controlPlane": {"apiServer": {"host": "https://a:6443"}}},
        "/controlPlane/apiServer/host",
    ),
    "an API server with its port": (
        {"controlPlane": {"apiServer": {"host": "a.b:6443"}}},
        "/controlPlane/apiServer/host",
    ),
    "an API server in brackets": (
        {"controlPlane": {"apiServer": {"host": "[fd00::1]"}}},
        "/controlPlane/apiServer/host",
    ),
    "an empty section": ({"agent": None}, "missing property 'agent'"),
    "an empty inner section": ({"controlPlane": {"apiServer": None}}, "missing property 'apiServer'"),
    "an empty value that has to be": ({"agent": {"cluster": None}}, "missing property 'cluster'"),
    "a short digest": ({"image": {"digest": "sha256:00"}}, "/image/digest"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_value_is_refused_and_named(name: str) -> None:
    values, reason = WRONG[name]

    done = helm("template", "deltaplane", CHART, "-f", EXAMPLE, values=values)

    assert done.returncode == 1
    assert reason in done.stderr


@pytest.mark.parametrize("host", ["", "192.0.2.255", "fd00::1", "::1", "a", "plane-3.example.com", "1.example-2"])
def test_the_api_servers_address_or_name_is_taken(host: str) -> None:
    template({"controlPlane": {"apiServer": {"host": host}, "addresses": [host or "b"]}})


def test_a_release_is_not_kept_in_the_namespace_that_it_makes() -> None:
    inside = ("template", "deltaplane", CHART, "-f", EXAMPLE, "--namespace", "deltaplane-system")

    refused, taken = helm(*inside), helm(*inside, values={"namespace": {"create": False}})

    assert "namespace.create: Helm cannot keep the release's record in deltaplane-system" in refused.stderr
    assert taken.returncode == 0, taken.stderr
    assert ("Namespace", "", "deltaplane-system") not in objects(taken.stdout)


def test_values_reach_what_they_are_for() -> None:
    digest = "sha256:" + "0" * 64
    values = {
        "namespace": {"name": "services"},
        "image": {"digest": digest, "pullPolicy": "Always", "pullSecrets": ["registry"]},
        "certificates": {"source": "cert-manager", "certManager": {"namespace": "issuers"}},
        "tracing": {"endpoint": "192.0.2.9:4317", "sampleRatio": 0},
        "controlPlane": {
            "addresses": ["fd00::1", "192.0.2.1", "plane-3.example.com"],
            "apiServer": {"host": "192.0.2.8", "port": 443},
            "affinity": None,
            "nodeSelector": {"example.com/replica": "yes"},
            "extraArgs": ["--v=4"],
        },
        "agent": {"extraArgs": ["--nodeport-addresses=primary"], "resources": {"limits": {"memory": "1Gi"}}},
    }
    found = objects(template(values))
    plane, agent = (found["DaemonSet", "services", f"deltaplane-{name}"] for name in ("controlplane", "agent"))
    plane, agent = (each["spec"]["template"]["spec"] for each in (plane, agent))
    env = {each["name"]: each for each in plane["containers"][0]["env"]}
    certificate = found["Certificate", "services", "deltaplane-controlplane"]["spec"]

    assert {namespace for _, namespace, _ in found} == {"services", "issuers", "default", ""}
    assert found["ConfigMap", "services", "deltaplane-agent"]["data"]["server"] == (
        "[fd00::1]:50051,192.0.2.1:50051,plane-3.example.com:50051"
    )
    assert certificate["ipAddresses"] == ["fd00::1", "192.0.2.1"]
    assert certificate["dnsNames"] == ["deltaplane-controlplane.services.svc", "plane-3.example.com"]
    for each in (*plane["containers"], *agent["initContainers"], *agent["containers"]):
        assert each["image"] == f"registry.example.com/deltaplane@{digest}"
        assert each["imagePullPolicy"] == "Always"
    assert plane["imagePullSecrets"] == agent["imagePullSecrets"] == [{"name": "registry"}]
    assert plane["containers"][0]["args"][-3:] == [
        "--otlp-endpoint=192.0.2.9:4317",
        "--trace-sample-ratio=0",
        "--v=4",
    ]
    assert env["KUBERNETES_SERVICE_HOST"] == {"name": "KUBERNETES_SERVICE_HOST", "value": "192.0.2.8"}
    assert env["KUBERNETES_SERVICE_PORT"]["value"] == "443"
    assert plane["nodeSelector"] == {"example.com/replica": "yes"}
    assert "affinity" not in plane
    for each in (*agent["initContainers"], *agent["containers"]):
        assert each["args"][-1] == "--nodeport-addresses=primary"
    assert agent["containers"][0]["resources"] == {"limits": {"memory": "1Gi"}}


def test_a_changed_value_of_the_agents_config_map_rolls_them_out_and_a_new_version_of_the_chart_does_not() -> None:
    def pods(text: str) -> dict[str, Any]:
        return {name: thing["spec"]["template"] for (kind, _, name), thing in raw(text).items() if kind == "DaemonSet"}

    before = pods(template())
    after = pods(template({"clusterCIDRs": ["10.0.0.0/8"]}))

    assert before["deltaplane-agent"] != after["deltaplane-agent"]
    assert before["deltaplane-controlplane"] == after["deltaplane-controlplane"]
    labels = [label for pod in before.values() for label in pod["metadata"]["labels"]]
    assert CHARTS_OWN & set(labels) == set()


def raw(text: str) -> Objects:
    """Every object as it is rendered."""
    every = [thing for thing in yaml.safe_load_all(text) if thing]
    return {(each["kind"], each["metadata"].get("namespace", ""), each["metadata"]["name"]): each for each in every}


@pytest.mark.usefixtures("issuers")
@pytest.mark.parametrize("components", [("iptables",), ("cert-manager",), tuple(COMPONENTS)[-1]], ids="+".join)
def test_the_api_server_accepts_every_object_of_the_chart(cluster: Cluster, components: tuple[str, ...]) -> None:
    rendered = template(COMPONENTS[components])
    applied = cluster.api.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", stdin=rendered
    ).splitlines()

    assert len(applied) == len(raw(rendered))
    assert all(line.endswith("serverside-applied (server dry run)") for line in applied)
