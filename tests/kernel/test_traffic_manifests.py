"""The line on a folder of manifests: a mistake in a file costs nothing that was served, and listings stay readable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import tables
from tools.lab import manifests
from tools.lab.client import many
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric
from tools.lab.rules import nft

WEB = "172.30.7.1"


@pytest.fixture
def folder(clean: Fabric, tmp_path: Path) -> Path:
    """Manifests of the nodes and of one Service on every pod."""
    folder = tmp_path / "manifests"
    folder.mkdir()
    manifests.write(folder / "nodes.yaml", *map(manifests.node_object, clean.nodes))
    manifests.write(folder / "web.yaml", manifests.service("web", [manifests.port(80, 8080)], [WEB]))
    manifests.write(folder / "slices.yaml", *manifests.slices("web", clean.pods, [manifests.slice_port(8080)]))
    return folder


@pytest.fixture
def line(clean: Fabric, folder: Path, tmp_path: Path, echo: EchoServers) -> Iterator[Deployment]:
    for pod in clean.pods:
        echo.start_pod(pod)
    with Deployment(clean, tmp_path, "--source=manifests", f"--manifests={folder}") as line:
        line.start()
        yield line


@pytest.mark.parametrize(
    "right, wrong, said",
    [
        pytest.param("port: 80\n", "port: eighty\n", r"web\.yaml.*spec\.ports.*port", id="field"),
        pytest.param("kind: Service", "kind: [Service", r"web\.yaml.*line \d", id="syntax"),
        pytest.param(WEB, "172.30.7.256", r"web\.yaml.*clusterIP.*172\.30\.7\.256", id="address"),
    ],
)
def test_a_malformed_manifest_is_one_line_and_what_it_said_stays(
    line: Deployment, folder: Path, right: str, wrong: str, said: str
) -> None:
    process, client = line.controlplane.process, line.fabric.nodes[0].clients[0].space
    assert process is not None
    before = (folder / "web.yaml").read_text()
    assert right in before

    (folder / "web.yaml").write_text(before.replace(right, wrong))
    process.wait_log(f"cannot use object .*{said}")
    with line.change():  # the others are not held up by it
        manifests.write(folder / "more.yaml", manifests.service("more", [manifests.port(80)], ["172.30.7.2"]))

    assert set(many(client, WEB, 80, 200)) == {pod.name for pod in line.fabric.pods}
    assert tables.read(line.fabric.nodes[0].space).refused == {(4, "172.30.7.2", "tcp", 80)}
    lines = process.output().splitlines()
    assert len([text for text in lines if " WARNING " in text or " ERROR " in text]) == 1
    assert "Traceback" not in process.output()

    (folder / "web.yaml").write_text(before)
    process.wait_log("object is usable again")


@pytest.mark.timeout(300)
def test_the_stock_tool_lists_a_thousand_services_readably(line: Deployment, folder: Path) -> None:
    services, slices = [], []
    for number in range(1000):
        name, ips = (
            f"s{number}",
            [f"172.30.{100 + number // 250}.{1 + number % 250}", f"fd00:10:96::{0x1000 + number:x}"],
        )
        services.append(
            manifests.service(name, [manifests.port(80, 8080, node_port=30000 + number)], ips, kind="NodePort")
        )
        slices += manifests.slices(name, line.fabric.pods[: number % 4], [manifests.slice_port(8080)])
    with line.change(60):
        manifests.write(folder / "thousand.yaml", *services, *slices)

    node = line.fabric.nodes[0]
    text = nft(node.space, "list", "ruleset")

    for family, address in ((4, WEB), (6, "fd00:10:96::13e7")):
        assert f"table {tables.FAMILIES[family]} deltaplane {{" in text
        assert address in text
    assert "172.30.103.250 . tcp . 80 . 2 : 10.180.2.10 . 8080" in text
    assert "tcp . 30999 : goto nodeport-4" in text
    assert "172.30.103.247 . tcp . 80 : goto reject-chain" in text
    with_web = [manifests.service("web", [manifests.port(80, 8080)], [WEB]), *services]
    complete = [*manifests.slices("web", line.fabric.pods, [manifests.slice_port(8080)]), *slices]
    assert tables.read(node.space) == tables.wanted(with_web, complete, node)


@pytest.mark.parametrize(
    "mode", ["nftables", *(pytest.param(mode, marks=pytest.mark.slow) for mode in ("iptables", "userspace"))]
)
def test_a_service_at_the_control_planes_own_address_cuts_no_agent_off(
    clean: Fabric, folder: Path, tmp_path: Path, echo: EchoServers, mode: str
) -> None:
    """It would be refused by its own rules when it dials again, and not be told that the Service is gone."""
    for pod in clean.pods:
        echo.start_pod(pod)
    with Deployment(clean, tmp_path, "--source=manifests", f"--manifests={folder}") as line:
        for agent in line.agents.values():
            agent.mode = mode
        line.start()
        host, _, port = line.controlplane.address.rpartition(":")
        thief = manifests.service("thief", [manifests.port(int(port))], ["172.30.7.9"], externalIPs=[host])
        with line.change():
            manifests.write(folder / "thief.yaml", thief)
        failed = [failure.text for node in line.controlplane.nodes().values() for failure in node.failed]
        wanted = f"Service default/thief: TCP {host}:{port} is where this node reaches its control plane (--server)"
        assert {text.partition(": choose")[0] for text in failed} == {wanted}
        assert len(failed) == len(clean.nodes)
        line.controlplane.kill()
        line.controlplane.start()
        line.wait_applied(timeout=60)
        with line.change():
            (folder / "thief.yaml").unlink()
        assert [node.failed for node in line.controlplane.nodes().values() if node.failed] == []
