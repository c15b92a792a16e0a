"""Pods and Deployments of a folder of manifests, and the slices that are made of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.endpoints.folder import FolderEndpoints
from controlplane.endpoints.manifests import ADDRESSES, MORE, Place, places
from controlplane.source.manifests import ManifestSource
from deltaplane.model import Conditions, EndpointSlice, Kind
from tests.unit.controlplane.source.recorder import Recorder

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  clusterIPs: [10.96.0.1]
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
"""
DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  annotations: {%s: "%s"}
spec:
  %s
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
"""
POD = """
apiVersion: v1
kind: Pod
metadata: {name: one, labels: {app: web}}
spec: {nodeName: a, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.1.0.9}]%s}
"""
NODE = "apiVersion: v1\nkind: Node\nmetadata: {name: a, labels: {topology.kubernetes.io/zone: east}}\n"
SLICE = """
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %s, labels: {kubernetes.io/service-name: other}}
addressType: IPv4
endpoints: [{addresses: [10.9.9.9]}]
ports: [{port: 80}]
"""


def deployment(entries: str, spec: str = "replicas: 2") -> str:
    return DEPLOYMENT % (ADDRESSES, entries, spec)


@asynccontextmanager
async def following(folder: Path, **files: str) -> AsyncIterator[Recorder]:
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
    recorder = Recorder()
    source = ManifestSource(folder, FolderEndpoints(recorder), recorder, more=MORE)
    task = asyncio.create_task(source.run())
    try:
        await recorder.until(lambda: Kind.SERVICE_CIDR in recorder.synced_kinds)
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def ends(recorder: Recorder) -> dict[str, list[tuple[str, bool, str, str]]]:
    """Endpoints by slice: address, readiness, node and zone."""
    return {
        key.name: [
            (".".join(map(str, end.address)), bool(end.conditions & Conditions.READY), end.node, end.zone)
            for end in one.endpoints
        ]
        for key, one in recorder.state.items()
        if isinstance(one, EndpointSlice)
    }


async def test_a_deployments_pods_are_the_first_replicas_of_its_addresses(tmp_path: Path) -> None:
    text = deployment("10.1.0.1 @a, 10.1.0.2 @b not-ready, 10.1.0.3")
    async with following(tmp_path, svc=SERVICE, pods=text, nodes=NODE) as seen:
        assert ends(seen) == {"web-ipv4-1": [("10.1.0.1", True, "a", "east"), ("10.1.0.2", False, "b", "")]}
        (tmp_path / "pods.yaml").write_text(deployment("10.1.0.1 @a, 10.1.0.2 @b, 10.1.0.3", ""))
        await seen.until(lambda: len(ends(seen)["web-ipv4-1"]) == 3)
        assert all(ready for _, ready, _, _ in ends(seen)["web-ipv4-1"])


async def test_a_pod_whose_name_looks_like_a_deployments_pod_is_another_one(tmp_path: Path) -> None:
    like = (POD % "").replace("name: one", "name: web-10-1-0-1")
    async with following(tmp_path, svc=SERVICE, pods=deployment("10.1.0.1 @a", ""), like=like) as seen:
        assert [address for address, *_ in ends(seen)["web-ipv4-1"]] == ["10.1.0.1", "10.1.0.9"]
        (tmp_path / "like.yaml").unlink()
        await seen.until(lambda: [address for address, *_ in ends(seen)["web-ipv4-1"]] == ["10.1.0.1"])


@pytest.mark.parametrize("number", ["99999", "-4", "0"])
async def test_a_containers_port_that_is_none_is_named(tmp_path: Path, number: str) -> None:
    async with following(tmp_path, svc=SERVICE, pod=(POD % "").replace("8080", number)) as seen:
        (reason,) = (reason for where, reason in seen.problems.items() if "pod.yaml" in str(where))
        assert f"spec.containers[0].ports[0].containerPort: {number} is not 1..65535; port skipped" in str(reason)


async def test_a_pod_has_what_its_status_says_and_is_ready_unless_that_says_otherwise(tmp_path: Path) -> None:
    async with following(tmp_path, svc=SERVICE, pod=POD % "") as seen:
        assert ends(seen) == {"web-ipv4-1": [("10.1.0.9", True, "a", "")]}
        (tmp_path / "pod.yaml").write_text(POD % ", conditions: [{type: Ready, status: 'False'}]")
        await seen.until(lambda: not ends(seen)["web-ipv4-1"][0][1])
        (tmp_path / "pod.yaml").unlink()
        await seen.until(lambda: ends(seen) == {"web-ipv4-1": []})


async def test_slices_go_with_the_service_and_with_its_selector(tmp_path: Path) -> None:
    async with following(tmp_path, svc=SERVICE, pod=POD % "") as seen:
        (tmp_path / "svc.yaml").write_text(SERVICE.replace("selector: {app: web}", "type: ClusterIP"))
        await seen.until(lambda: ends(seen) == {})
        (tmp_path / "svc.yaml").write_text(SERVICE)
        await seen.until(lambda: len(ends(seen)) == 1)
        (tmp_path / "svc.yaml").unlink()
        await seen.until(lambda: ends(seen) == {})


async def test_slices_of_the_folder_stay_and_keep_their_names(tmp_path: Path) -> None:
    async with following(tmp_path, svc=SERVICE, pod=POD % "", hand=SLICE % "web-ipv4-1") as seen:
        assert ends(seen) == {
            "web-ipv4-1": [("10.9.9.9", True, "", "")],
            "web-ipv4-2": [("10.1.0.9", True, "a", "")],
        }
        (tmp_path / "more.yaml").write_text(SLICE % "web-ipv4-2")
        await seen.until(lambda: "web-ipv4-3" in ends(seen))
        assert ends(seen)["web-ipv4-2"] == [("10.9.9.9", True, "", "")]


async def test_the_same_folder_makes_the_same_slices(tmp_path: Path) -> None:
    files = {"svc": SERVICE, "pods": deployment(", ".join(f"10.1.{n // 250}.{n % 250 + 1}" for n in range(250)), "")}
    states = []
    for _ in range(2):
        async with following(tmp_path, **files) as seen:
            states.append(ends(seen))
    assert states[0] == states[1]
    assert sorted(map(len, states[0].values())) == [50, 100, 100]


async def test_more_replicas_than_addresses_are_reported(tmp_path: Path) -> None:
    async with following(tmp_path, svc=SERVICE, pods=deployment("10.1.0.1")) as seen:
        (reason,) = seen.problems.values()
        assert "spec.replicas: 2" in reason
        assert ends(seen) == {"web-ipv4-1": [("10.1.0.1", True, "", "")]}


async def test_a_pod_without_a_usable_entry_keeps_its_last_state(tmp_path: Path) -> None:
    async with following(tmp_path, svc=SERVICE, pod=POD % "") as seen:
        broken = (POD % "").replace("labels:", f"annotations: {{{ADDRESSES}: 'here @a'}}, labels:")
        (tmp_path / "pod.yaml").write_text(broken)
        await seen.until(lambda: seen.problems)
        assert any(ADDRESSES in reason for reason in seen.problems.values())
        assert ends(seen) == {"web-ipv4-1": [("10.1.0.9", True, "a", "")]}


async def test_without_the_controller_pods_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "pod.yaml").write_text(POD % "")
    recorder = Recorder()
    task = asyncio.create_task(ManifestSource(tmp_path, recorder, recorder).run())
    await recorder.until(lambda: recorder.problems)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert "not used; ignored" in next(iter(recorder.problems.values()))


ENTRIES = [
    ("10.0.0.1", [Place(("10.0.0.1",), "", "")], 0),
    ("10.0.0.1 fd00:0::1 @a terminating", [Place(("10.0.0.1", "fd00::1"), "a", "terminating")], 0),
    ("10.0.0.1 @a, 10.0.0.2 @b", [Place(("10.0.0.1",), "a", ""), Place(("10.0.0.2",), "b", "")], 0),
    ("10.0.0.1 @a @b, 10.0.0.2", [Place(("10.0.0.2",), "", "")], 1),
    ("10.0.0.1 not-ready terminating", [], 1),
    ("nonsense, 10.0.0.2", [Place(("10.0.0.2",), "", "")], 1),
    ("127.0.0.1", [], 1),
    ("@a", [], 1),
    ("10.0.0.1 @A_b", [], 1),
]


@pytest.mark.parametrize(("text", "found", "problems"), ENTRIES)
def test_the_entries_of_the_annotation(text: str, found: list[Place], problems: int) -> None:
    said: list[str] = []
    assert places(text, said) == found
    assert len(said) == problems
