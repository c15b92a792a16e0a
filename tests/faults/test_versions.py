"""Fault case 22: one program is of the first release, the other is today's."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.faults.world import Part, World, address, until

REPOSITORY = Path(__file__).parents[2]
FIRST = ("0.1.0", "v0.1.0", "39c4602")  # the tag; where it is not there, the first commit whose two programs run
SERVER = "127.0.0.1:6001"


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The packages of the first release."""
    for name in FIRST:
        done = subprocess.run(["git", "archive", name], cwd=REPOSITORY, capture_output=True, check=False)
        if done.returncode == 0:
            folder = tmp_path_factory.mktemp("released")
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
                archive.extractall(folder, filter="data")
            return folder
    pytest.skip("the clone does not have the first release")


@pytest.mark.slow
@pytest.mark.parametrize("old", ["agent", "controlplane"])
def test_fault_22_the_first_release_and_today_understand_each_other(empty: World, released: Path, old: str) -> None:
    agent = empty.agent(start=False)
    plane = Part("plane", empty.folder, [
        "controlplane", "--source=manifests", f"--manifests={empty.manifests}", f"--listen={SERVER}", "--insecure",
    ], agent.space)  # fmt: skip
    agent.words = [
        "agent", f"--server={SERVER}", "--insecure", "--hostname-override=n0", "--proxy-mode=nftables",
        f"--state-dir={empty.folder}/state0",
    ]  # fmt: skip
    (agent if old == "agent" else plane).code = released
    try:
        plane.start()
        agent.start()
        check(empty, agent)
        empty.put(1, [address(99)])
        empty.put(4, [address(40)])
        empty.remove(2)
        check(empty, agent)
        plane.kill()
        empty.put(1, [address(98), address(97)])
        plane.start()
        check(empty, agent)
        assert agent.running.running
        assert plane.running.running
    finally:
        plane.kill()


def check(world: World, agent: Part) -> None:
    """Packets reach all endpoints of each Service and no other."""
    for number, endpoints in list(world.truth.items()):
        until(lambda n=number, e=endpoints: world.reached(agent, n) == set(e), world.state)  # type: ignore[misc]
