"""Real programs: a control plane that starts anew with a little other state sends its agent only what differs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.kernel.programs import Programs, eventually, network

pytestmark = pytest.mark.kernel
MANY = range(1, 61)
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: s{n}}}
spec: {{clusterIP: 10.96.{net}.{n}, ports: [{{port: 80}}]}}
"""
SERVER, METRICS = "127.0.0.1:6001", "127.0.0.1:6002"
LIST = f"""
import grpc
from deltaplane.v1 import inspection_pb2 as pb, inspection_pb2_grpc
stub = inspection_pb2_grpc.InspectionServiceStub(grpc.insecure_channel("{SERVER}"))
print([node.brought_up for node in stub.ListNodes(pb.ListNodesRequest()).nodes if node.applied_rev])
"""
PAGE = f"import urllib.request as u; print(u.urlopen('http://{METRICS}/metrics').read().decode())"


class Place(Programs):
    def __init__(self, folder: Path, made: str, stack: ExitStack) -> None:
        super().__init__(made, stack)
        self.manifests = folder

    def put(self, n: int, net: int = 0) -> None:
        (self.manifests / f"s{n}.yaml").write_text(SERVICE.format(n=n, net=net))

    def replica(self) -> subprocess.Popen[bytes]:
        return self.start(
            "controlplane", "--source=manifests", f"--manifests={self.manifests}", f"--listen={SERVER}",
            f"--metrics-listen={METRICS}",
        )  # fmt: skip

    def python(self, text: str) -> str:
        return self.run(sys.executable, "-c", text)

    def services(self) -> set[str]:
        """In the kernel."""
        return set(re.findall(r"10\.96\.\d+\.\d+", self.run("nft", "list", "ruleset")))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with network("partial") as opened:
        (tmp_path / "manifests").mkdir()
        yield Place(tmp_path / "manifests", *opened)


def test_a_replica_that_starts_anew_sends_what_differs(place: Place, tmp_path: Path) -> None:
    for n in MANY:
        place.put(n)
    first = place.replica()
    agent = ("--hostname-override=n1", "--proxy-mode=nftables", f"--state-dir={tmp_path}/state")
    place.start("agent", f"--server={SERVER}", *agent)
    eventually(lambda: len(place.services()) == len(MANY))
    eventually(lambda: "['CONNECTED: whole" in place.python(LIST))
    first.terminate()
    first.wait()
    place.put(1, net=1)
    (place.manifests / "s2.yaml").unlink()

    place.replica()

    eventually(lambda: "['CONNECTED: partial, 2 of 4096 leaves']" in place.python(LIST))
    assert place.services() == {"10.96.1.1"} | {f"10.96.0.{n}" for n in MANY if n > 2}
    page = place.python(PAGE)
    assert 'deltaplane_resumes_total{extent="partial",reason="CONNECTED"} 1.0' in page
    assert 'deltaplane_snapshot_bytes_total{extent="partial"}' in page
