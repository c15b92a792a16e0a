"""The safety brake with real programs: a folder of manifests is emptied, and an operator releases what is held."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

pytestmark = pytest.mark.kernel
DEADLINE = 30.0
MANY = range(1, 21)
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: s{n}}}
spec: {{clusterIP: 10.96.0.{n}, ports: [{{port: 80}}]}}
"""
SERVER = "127.0.0.1:6001"
CALL = f"""
import grpc
from deltaplane.v1 import inspection_pb2 as pb, inspection_pb2_grpc
stub = inspection_pb2_grpc.InspectionServiceStub(grpc.insecure_channel("{SERVER}"))
"""


class Place:
    """A control plane and an agent in a network of their own."""

    def __init__(self, folder: Path, network: str, stack: ExitStack) -> None:
        self.manifests, self.away = folder / "manifests", folder / "away"
        self.manifests.mkdir()
        self.away.mkdir()
        self._inside = ["ip", "netns", "exec", network]
        self._stack = stack
        for n in MANY:
            (self.manifests / f"s{n}.yaml").write_text(SERVICE.format(n=n))

    def start(self, *words: str) -> None:
        program = str(Path(sys.executable).with_name("deltaplane"))
        process = subprocess.Popen([*self._inside, program, *words, "--insecure"], stderr=subprocess.DEVNULL)
        self._stack.callback(process.wait)
        self._stack.callback(process.terminate)

    def run(self, *words: str) -> str:
        return subprocess.run([*self._inside, *words], capture_output=True, text=True, check=False, timeout=30).stdout

    def ask(self, expression: str) -> str:
        """What the inspection service answers."""
        return self.run(sys.executable, "-c", f"{CALL}print({expression})")

    def services(self) -> int:
        """In the kernel."""
        return len(set(re.findall(r"10\.96\.0\.\d+", self.run("nft", "list", "ruleset"))))

    def vanish(self) -> None:
        """All at once, as a folder that is not mounted."""
        self.manifests.rename(self.away / "manifests")
        self.manifests.mkdir()


def eventually(what: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not what():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if os.geteuid():
        pytest.skip("needs root")
    network = f"dp-brake-{os.getpid()}"
    with ExitStack() as stack:
        subprocess.run(["ip", "netns", "add", network], check=True)
        stack.callback(subprocess.run, ["ip", "netns", "delete", network], check=True)
        made = Place(tmp_path, network, stack)
        made.run("ip", "link", "set", "lo", "up")
        made.start("controlplane", "--source=manifests", f"--manifests={made.manifests}", f"--listen={SERVER}")
        state = f"--state-dir={tmp_path}/state"
        made.start("agent", f"--server={SERVER}", "--hostname-override=n1", "--proxy-mode=nftables", state)
        eventually(lambda: made.services() == len(MANY))
        yield made


def test_an_emptied_folder_is_held_until_an_operator_releases_it(place: Place) -> None:
    place.vanish()
    eventually(lambda: "brake" in place.ask("stub.ListNodes(pb.ListNodesRequest())"))
    assert place.services() == len(MANY)

    assert "n1" in place.ask("stub.ReleaseBrake(pb.ReleaseBrakeRequest(node_name='n1')).nodes")

    eventually(lambda: place.services() == 0)
    assert "brake" not in place.ask("stub.ListNodes(pb.ListNodesRequest())")
