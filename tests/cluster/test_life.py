"""The cluster comes up from nothing and goes without a trace: in peace, and after a crash."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tools.cluster"]
PLACES = ("/sys/fs/cgroup", "/run/netns", "/var/lib", "/etc", "/var/log")


@pytest.fixture
def apart(tmp_path: Path) -> dict[str, str]:
    """An environment in which the command knows of no other cluster on this machine."""
    return {**os.environ, "DELTAPLANE_CLUSTER_DIR": str(tmp_path / "clusters")}


@contextmanager
def held(environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`up --hold`, from when both nodes are Ready."""
    with log.open("wb") as output:
        up = subprocess.Popen(
            [*COMMAND, "up", "--hold", "--proxy-mode=nftables"], cwd=REPOSITORY, env=environment, stderr=output
        )
    try:
        assert wait_line(up, log, "two nodes Ready"), log.read_text()
        yield up
    finally:
        up.kill()
        up.wait()


def wait_line(up: subprocess.Popen[bytes], log: Path, text: str, timeout: float = 900) -> bool:
    """Looks again each half second: the program writes a line when it has something to say."""
    for _ in range(int(timeout * 2)):
        if text in log.read_text():
            return True
        try:
            up.wait(0.5)
        except subprocess.TimeoutExpired:
            continue
        return False
    return False


def cluster(command: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, command], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


def names(owner: int) -> list[str]:
    """What the machine has that a run of this process could have made: by name, in every place it writes to."""
    found = [str(path) for place in PLACES[:2] for path in Path(place).glob(f"**/dp*{owner}-*")]
    return found + [line for line in Path("/proc/mounts").read_text().splitlines() if f"dpc{owner}" in line]


def processes(owner: int) -> list[str]:
    """Command lines that name the run's folder, and processes that are in its cgroups."""
    texts = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            texts.append((path / "cmdline").read_bytes().decode() + (path / "cgroup").read_text())
        except OSError:
            continue
    return [text for text in texts if f"dpc{owner}" in text]


def test_it_comes_up_serves_a_deployment_through_kube_proxy_and_goes_without_a_trace(
    apart: dict[str, str], tmp_path: Path
) -> None:
    before = {place: sorted(Path(place).iterdir()) for place in PLACES[2:]}
    log = tmp_path / "up.log"
    with held(apart, log) as up:
        found = re.search(r"(ip netns exec \S+) kubectl (--kubeconfig=\S+)", log.read_text())
        assert found
        kubectl = [*found[1].split(), "kubectl", found[2]]
        nodes = subprocess.run([*kubectl, "get", "nodes", "-o", "name"], capture_output=True, text=True, check=True)
        assert names(up.pid)
        assert processes(up.pid)
        down = cluster("down", apart)

    assert nodes.stdout.split() == ["node/node-1", "node/node-2"]
    assert down.returncode == 0, down.stderr
    assert names(up.pid) == []
    assert processes(up.pid) == []
    assert {place: sorted(Path(place).iterdir()) for place in PLACES[2:]} == before


def test_down_removes_what_a_crash_left(apart: dict[str, str], tmp_path: Path) -> None:
    with held(apart, tmp_path / "up.log") as up:
        up.send_signal(signal.SIGKILL)
        up.wait()
        left = cluster("left", apart)
        down = cluster("down", apart)

    assert left.returncode == 1
    assert f"run dpc{up.pid}" in left.stderr
    assert f"cgroup dpc{up.pid}-node-1" in left.stderr
    assert f"namespace dp{up.pid}-node-1" in left.stderr
    assert down.returncode == 0, down.stderr
    assert names(up.pid) == []
    assert processes(up.pid) == []
