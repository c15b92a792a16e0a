"""Agents killed at random points, again and again, while changes arrive: afterwards the kernel is what the objects say.

Each node runs another mode, so that all modes are killed at the same time. The long form is 200 times.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.kernel.load_support import following
from tests.kernel.modes_support import here, listing
from tools.lab import manifests
from tools.lab.client import many, until
from tools.lab.deltaplane import Agent, Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod
from tools.lab.rules import wipe

SERVICES = 24
PACE = 0.03  # seconds between two changes
LONGEST = 1.5  # seconds that an agent lives at most, or twice what the slowest start takes
CHECKED = 20  # kills between two looks at the whole kernel
SEED = 5


class Changing(threading.Thread):
    """Writes one Service after the other anew until it is stopped: its endpoints, its kind, or its being there."""

    def __init__(self, fabric: Fabric, folder: Path, seed: int, pace: float = PACE) -> None:
        super().__init__(daemon=True)
        self._fabric, self._folder, self._random = fabric, folder, random.Random(seed)
        self._over, self._pace = threading.Event(), pace
        self.written = 0

    def run(self) -> None:
        while not self._over.wait(self._pace):
            self.change(self._random.randrange(SERVICES))

    def change(self, number: int) -> None:
        """One Service is another; one in eight goes."""
        self.written += 1
        file, dice = self._folder / f"s{number}.yaml", self._random
        if dice.random() < 0.125 and file.exists():
            file.unlink()
            return
        self.write(number, dice.sample(self._fabric.pods, dice.randrange(len(self._fabric.pods) + 1)))

    def write(self, number: int, members: list[Pod], *, spread: bool = False) -> None:
        """`spread`: every client reaches all of them."""
        name, dice = f"s{number}", self._random
        node_port = 30100 + number if dice.random() < 0.5 else 0
        affinity = "ClientIP" if dice.random() < 0.2 and not spread else "None"
        ports = [manifests.port(80, 8080, "web", node_port=node_port), manifests.port(53, 8080, "dns", "UDP")]
        kind = "NodePort" if node_port else "ClusterIP"
        made = manifests.service(name, ports, vips(number), kind=kind, sessionAffinity=affinity)
        open_ports = [manifests.slice_port(8080, "web"), manifests.slice_port(8080, "dns", "UDP")]
        aside = self._folder.parent / f"{name}.new"
        manifests.write(aside, made, *manifests.slices(name, members, open_ports))
        aside.rename(self._folder / f"{name}.yaml")

    def stop(self) -> None:
        self._over.set()
        self.join()


def vips(number: int) -> list[str]:
    return [f"172.30.14.{number + 1}", f"fd00:10:96::e{number + 1:02x}"]


@pytest.fixture
def fabric(lab: Fabric, echo: EchoServers) -> Iterator[Fabric]:
    for node in lab.nodes:
        wipe(node.space)
    for pod in lab.pods:
        echo.start_pod(pod, protocols=["tcp"])
    yield lab
    for node in lab.nodes:
        wipe(node.space)


def test_killed_now_and_then(fabric: Fabric, tmp_path: Path) -> None:
    killed(fabric, tmp_path, 5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_two_hundred_times(fabric: Fabric, tmp_path: Path) -> None:
    killed(fabric, tmp_path, 200)


def killed(fabric: Fabric, folder: Path, times: int) -> None:
    """Every node's agent so often, and a look at all kernels now and then, and at the end."""
    with following(fabric, folder, "--nodeport-addresses=primary", "--drain-period=0s") as (at, line):
        agents = dict(zip(here(), line.agents.values(), strict=False))
        longest = max(LONGEST, 2 * max(begin(agent, mode) for mode, agent in agents.items()))
        for first in range(0, times, CHECKED):
            changing = Changing(fabric, at, SEED + first)
            changing.start()
            with ThreadPoolExecutor(len(agents)) as pool:
                count = min(CHECKED, times - first)
                done = [pool.submit(kill, agent, count, longest, f"{mode} {first}") for mode, agent in agents.items()]
                for each in done:
                    each.result()
            changing.stop()
            assert changing.written > count
            compare(line, agents)
        served(fabric, line, agents, changing)


def begin(agent: Agent, mode: str) -> float:
    """How long a start in this mode takes."""
    agent.stop()
    wipe(agent.node.space)
    agent.mode = mode
    began = time.monotonic()
    agent.start().wait_log("kernel has the whole state")
    return time.monotonic() - began


def kill(agent: Agent, times: int, longest: float, seed: str) -> None:
    dice = random.Random(seed)
    for _ in range(times):
        time.sleep(dice.random() * longest)
        agent.kill()
        agent.start()


def compare(line: Deployment, agents: dict[str, Agent]) -> None:
    """Every kernel holds what a first start on a clean node writes there."""
    line.settle(timeout=60)
    before = {mode: listing(agent.node.space) for mode, agent in agents.items()}
    for agent in agents.values():
        agent.stop()
        wipe(agent.node.space)
        agent.start()
    line.settle(timeout=60)
    for mode, agent in agents.items():
        wanted = listing(agent.node.space)
        more = [f"+ {text}" for text in before[mode] if text not in wanted]
        less = [f"- {text}" for text in wanted if text not in before[mode]]
        assert more + less == [], f"{mode}:\n" + "\n".join(more + less)


def served(fabric: Fabric, line: Deployment, agents: dict[str, Agent], changing: Changing) -> None:
    """And packets say so too."""
    with line.change():
        changing.write(0, list(fabric.pods), spread=True)
    names = {pod.name for pod in fabric.pods}
    for agent in agents.values():
        client = agent.node.clients[0].space
        for address in vips(0):
            until(lambda: set(many(client, address, 80, 200)) == names, 20, what=f"{address} in {agent.mode}")  # noqa: B023
