"""A real directory followed by real inotify."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.errors import SourceError
from controlplane.source.manifests import ManifestSource
from deltaplane import model
from deltaplane.model import Kind, ObjectKey, Protocol
from tests.unit.controlplane.source.recorder import Recorder

SLICE = """\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.0.1.1]}]
"""
NODE = (
    "apiVersion: v1\nkind: Node\nmetadata: {name: n1}\nstatus: {addresses: [{type: InternalIP, address: 192.0.2.1}]}\n"
)
SERVICE_CIDR = """\
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/12]}
"""


def _service(name: str, address: str = "10.96.0.1", ports: str = "[{port: 80}]") -> str:
    return f"""\
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{clusterIP: {address}, ports: {ports}}}
"""


def _key(name: str) -> ObjectKey:
    return ObjectKey(Kind.SERVICE, "default", name)


def _address(recorder: Recorder, name: str) -> bytes | None:
    service = recorder.state.get(_key(name))
    return service.cluster_ips[0] if isinstance(service, model.Service) else None


@asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    task = asyncio.create_task(ManifestSource(directory, recorder, recorder).run())
    try:
        await recorder.until(lambda: len(recorder.synced_kinds) == len(Kind) or task.done())
        yield recorder
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _write_aside(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(text)
    aside.rename(path)


async def test_the_directory_is_listed_once_per_kind(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("---\n".join([_service("web"), SLICE, NODE, SERVICE_CIDR]))
    (tmp_path / "notes.txt").write_text("not: [a manifest")
    async with _running(tmp_path) as recorder:
        assert recorder.synced_kinds == list(Kind)
        names = {"Service default/web", "EndpointSlice default/web-1", "Node n1", "ServiceCIDR kubernetes"}
        assert {str(key) for key in recorder.state} == names
        assert recorder.problems == {}
        piece = recorder.state[ObjectKey(Kind.ENDPOINT_SLICE, "default", "web-1")]
        assert isinstance(piece, model.EndpointSlice)
        assert piece.ports == (model.EndpointPort("", Protocol.TCP, 8080),)  # the API server's default name


@pytest.mark.parametrize("write", [Path.write_text, _write_aside])
async def test_an_edit_is_only_the_object_that_changed(tmp_path: Path, write: object) -> None:
    assert callable(write)
    file = tmp_path / "all.yaml"
    file.write_text("---\n".join([_service("a"), _service("b", "10.96.0.2"), SLICE]))
    async with _running(tmp_path) as recorder:
        write(file, "---\n".join([_service("a"), _service("b", "10.96.0.3"), SLICE]))
        await recorder.until(lambda: recorder.updates)
        (fact,) = recorder.changes
        assert fact.key == _key("b")
        assert fact.event_unix_nano > 0
        assert _address(recorder, "b") == bytes([10, 96, 0, 3])


async def test_files_that_come_and_go(tmp_path: Path) -> None:
    async with _running(tmp_path) as recorder:
        (tmp_path / "a.yml").write_text(_service("a"))
        await recorder.until(lambda: recorder.names == {"a"})
        (tmp_path / "b.json").write_text(
            '{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"v1","kind":"Service","metadata":{"name":"b"},'
            '"spec":{"clusterIP":"10.96.0.2"}}]}'
        )
        await recorder.until(lambda: recorder.names == {"a", "b"})
        (tmp_path / "a.yml").rename(tmp_path / "c.yaml")
        (tmp_path / "b.json").unlink()
        await recorder.until(lambda: recorder.names == {"a"})


async def test_a_document_with_a_syntax_error_is_reported_and_what_it_said_stays(tmp_path: Path) -> None:
    file = tmp_path / "all.yaml"
    file.write_text("---\n".join([_service("a"), _service("b", "10.96.0.2")]))
    async with _running(tmp_path) as recorder:
        file.write_text("---\n".join([_service("a", "10.96.0.9"), "kind: [\n"]))
        await recorder.until(lambda: recorder.updates and recorder.problems)
        assert recorder.names == {"a", "b"}
        assert _address(recorder, "a") == bytes([10, 96, 0, 9])
        ((where, reason),) = recorder.problems.items()
        assert where == f"{file} document 2"
        assert reason.startswith("not YAML: line ")
        file.write_text(_service("a", "10.96.0.9"))
        await recorder.until(lambda: recorder.names == {"a"})
        assert recorder.problems == {}


@pytest.mark.parametrize(
    "text, reason",
    [
        (_service("a", ports="[{port: eighty}]"), "spec.ports[0].port: expected int | null, got str"),
        (_service("a", "10.96.0"), "spec.clusterIPs[0]: '10.96.0' is not an IP address"),
        (_service("a", "''"), "spec.clusterIP: missing: nothing allocates one for a manifest, so name it (or None)"),
    ],
)
async def test_a_broken_object_is_reported_by_field_and_its_last_good_state_stays(
    tmp_path: Path, text: str, reason: str
) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(_service("a"))
    async with _running(tmp_path) as recorder:
        file.write_text(text)
        await recorder.until(lambda: recorder.problems)
        assert recorder.problems == {f"{file} document 1 Service default/a": reason}
        assert recorder.updates == []
        assert _address(recorder, "a") == bytes([10, 96, 0, 1])
        file.write_text(_service("a"))
        await recorder.until(lambda: not recorder.problems)
        assert recorder.updates == []


async def test_of_two_files_the_first_wins_and_the_second_takes_over(tmp_path: Path) -> None:
    (tmp_path / "1.yaml").write_text(_service("a", "10.96.0.1"))
    (tmp_path / "2.yaml").write_text(_service("a", "10.96.0.2"))
    async with _running(tmp_path) as recorder:
        assert _address(recorder, "a") == bytes([10, 96, 0, 1])
        assert recorder.problems == {f"{tmp_path}/2.yaml document 1 Service default/a": "also in 1.yaml, which is used"}
        (tmp_path / "1.yaml").unlink()
        await recorder.until(lambda: recorder.updates)
        assert _address(recorder, "a") == bytes([10, 96, 0, 2])
        assert recorder.problems == {}
        assert len(recorder.changes) == 1


@pytest.mark.parametrize(
    "text, where, reason",
    [
        (
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n",
            " Deployment x",
            "Deployment of apps/v1 is not",
        ),
        ("- 1\n", "", "not a Kubernetes object but a list"),
        ("kind: Service\n", "", "apiVersion or kind: missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {}\n", " Service", "metadata.name: missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: {name: 3}\n", " Service", "metadata.name: expected str, got int"),
        (_service("a") + "---\n" + _service("a"), "2 Service default/a", "the file names this object twice"),
    ],
)
async def test_what_is_not_understood_is_reported(tmp_path: Path, text: str, where: str, reason: str) -> None:
    (tmp_path / "x.yaml").write_text(text)
    async with _running(tmp_path) as recorder:
        ((said_where, said),) = recorder.problems.items()
        assert said_where.endswith(where)
        assert said.startswith(reason)


async def test_a_node_port_nobody_allocates_is_reported(tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(_service("a").replace("spec: {", "spec: {type: NodePort, "))
    async with _running(tmp_path) as recorder:
        assert recorder.names == {"a"}
        ((_, reason),) = recorder.problems.items()
        assert reason.startswith("spec.ports[0].nodePort: missing")


async def test_an_unreadable_file_keeps_what_it_said(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(_service("a"))
    async with _running(tmp_path) as recorder:
        file.write_bytes(b"\xff\xfe\xff")
        await recorder.until(lambda: recorder.problems)
        assert recorder.names == {"a"}
        assert "cannot be read" in recorder.problems[str(file)]
        file.write_text(_service("a"))
        await recorder.until(lambda: not recorder.problems)


async def test_a_config_map_mount_is_followed_over_its_link(tmp_path: Path) -> None:
    for version, address in (("v1", "10.96.0.1"), ("v2", "10.96.0.2")):
        (tmp_path / version).mkdir()
        (tmp_path / version / "a.yaml").write_text(_service("a", address))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    async with _running(tmp_path) as recorder:
        assert _address(recorder, "a") == bytes([10, 96, 0, 1])
        (tmp_path / "..data_tmp").symlink_to("v2")
        (tmp_path / "..data_tmp").rename(tmp_path / "..data")
        await recorder.until(lambda: _address(recorder, "a") == bytes([10, 96, 0, 2]))


async def test_a_directory_moved_away_keeps_its_state_and_is_found_again(tmp_path: Path) -> None:
    directory = tmp_path / "manifests"
    directory.mkdir()
    (directory / "a.yaml").write_text(_service("a"))
    async with _running(directory) as recorder:
        directory.rename(tmp_path / "elsewhere")
        await recorder.until(lambda: recorder.problems)
        assert recorder.names == {"a"}
        (tmp_path / "elsewhere" / "b.yaml").write_text(_service("b"))
        (tmp_path / "elsewhere").rename(directory)
        await recorder.until(lambda: recorder.names == {"a", "b"} and not recorder.problems)


async def test_a_missing_directory_is_an_error_at_the_start(tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(SourceError, match=r"manifests directory .*/none: No such file.*check --manifests"):
        await ManifestSource(tmp_path / "none", recorder, recorder).run()
