"""A shop on three nodes: a control plane that reads manifests, agents on kernels in memory, and the command."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from msgspec import Struct

from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from operatorcli.main import main
from tests.streams.programs import AGENTS
from tools.lab.manifests import Object, endpoint, endpoint_slice, port, service, slice_port
from tools.lab.ports import free_port
from tools.lab.process import Process

NODES = ("node-a", "node-b", "node-c")
COMMAND = "import sys; from deltaplane.cli import main; sys.exit(main())"
PATIENCE = 60.0  # seconds that anything may take on a busy machine


class Said(Struct, frozen=True):
    """What the command wrote, and its exit code."""

    code: int
    out: str
    err: str


class Shop:
    """`folder` has the manifests. `address`: of the control plane, in plain text."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder / "manifests", f"127.0.0.1:{free_port()}"
        self.folder.mkdir()
        self.write("nodes", *(node(name, number) for number, name in enumerate(NODES, 1)))
        self.write("web", *web())
        self.write("db", service("db", [port(5432, name="sql")], ["10.96.0.20"], namespace="shop"))
        self.plane = Process(
            "controlplane",
            [sys.executable, "-c", COMMAND, "controlplane", "--source=manifests", f"--manifests={self.folder}",
             f"--listen={self.address}", "--insecure"],
            folder / "controlplane.log",
        )  # fmt: skip
        self.agents = Process(
            "agents",
            [sys.executable, "-c", AGENTS, f"--servers={self.address}", f"--names={','.join(NODES)}", "--insecure"],
            folder / "agents.log",
        )
        self._channel = grpc.insecure_channel(self.address)
        self._stub: Any = InspectionServiceStub(self._channel)

    def write(self, name: str, *objects: Object) -> None:
        """A manifest, whole at once."""
        beside = self.folder / f".{name}"
        beside.write_text(yaml.safe_dump_all(objects))
        beside.rename(self.folder / f"{name}.yaml")

    def settled(self, names: tuple[str, ...] = NODES) -> int:
        """Waits until these nodes have the head; gives it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(grpc.RpcError):
                answer = self._stub.ListNodes(pb.ListNodesRequest(), timeout=5)
                done = {each.node_name for each in answer.nodes if each.applied_rev >= answer.head_rev}
                if answer.head_rev and set(names) <= done:
                    return int(answer.head_rev)
            time.sleep(0.05)
        raise AssertionError(f"not settled:\n{self.plane.tail()}\n{self.agents.tail()}")

    def changed(self, head: int) -> None:
        """Waits until the control plane has a newer revision than this."""
        deadline = time.monotonic() + PATIENCE
        while self._stub.GetStatus(pb.GetStatusRequest(), timeout=5).head_rev <= head:
            assert time.monotonic() < deadline, self.plane.tail()
            time.sleep(0.02)

    def close(self) -> None:
        self._channel.close()
        self.agents.stop()
        self.plane.stop()


def node(name: str, number: int) -> Object:
    labels = {"topology.kubernetes.io/zone": f"zone-{number}"}
    return {
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "uid": f"uid-{name}", "labels": labels},
        "spec": {"podCIDR": f"10.244.{number}.0/24", "podCIDRs": [f"10.244.{number}.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number}"}]},
    }  # fmt: skip


def web(*, replicas: int = 3, address: int = 7) -> list[Object]:
    """A Service with an endpoint on each of the first nodes."""
    endpoints = [endpoint(f"10.244.{number}.{address}", NODES[number - 1]) for number in range(1, replicas + 1)]
    return [
        service("web", [port(80, 8080, "http")], ["10.96.0.10"], namespace="shop"),
        endpoint_slice("web", endpoints, [slice_port(8080, "http")], namespace="shop"),
    ]


@contextmanager
def opened(folder: Path) -> Iterator[Shop]:
    shop = Shop(folder)
    try:
        shop.settled()
        yield shop
    finally:
        shop.close()


class Command:
    """Runs the command in this process, as at `where`."""

    def __init__(
        self, where: dict[str, str], captured: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._captured, self._monkeypatch = captured, monkeypatch
        for name, value in where.items():
            monkeypatch.setenv(name, value)

    def __call__(self, *words: str) -> Said:
        self._captured.readouterr()
        code = main(list(words))
        said = self._captured.readouterr()
        return Said(code, said.out, said.err)


@contextmanager
def meanwhile(doing: threading.Thread) -> Iterator[None]:
    """Runs it beside what is inside."""
    doing.start()
    try:
        yield
    finally:
        doing.join(PATIENCE)
