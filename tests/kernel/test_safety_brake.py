"""The safety brake with real programs: a folder of manifests is emptied, and an operator releases what is held."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.programs import Programs, eventually, network

pytestmark = pytest.mark.kernel
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


class Place(Programs):
    """A control plane and an agent."""

    def __init__(self, folder: Path, made: str, stack: ExitStack) -> None:
        super().__init__(made, stack)
        self.manifests, self.away = folder / "manifests", folder / "away"
        self.manifests.mkdir()
        self.away.mkdir()
        for n in MANY:
            (self.manifests / f"s{n}.yaml").write_text(SERVICE.format(n=n))

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


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with network("brake") as opened:
        made = Place(tmp_path, *opened)
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
