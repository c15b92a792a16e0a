"""Fault case 3 at a size: real streams of the product's own client and session, without kernels (bench.fanout)."""

from __future__ import annotations

import resource
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from bench.fanout_commands import Child

AGENTS, SERVICES, ENDPOINTS = 1_000, 1_000, 10
CHANGES = 50  # that the first replicas had and those after them have not: every state differs
LIMIT = 90.0  # seconds until all agents follow again, on a busy machine
MEMORY = 300 << 10  # KiB of one replica, at its peak


class Replicas:
    """Servers of `fanout`, each at an address that it keeps."""

    def __init__(self, number: int) -> None:
        with ExitStack() as probes:
            ports = [probes.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(number)]
            self.addresses = [f"127.0.0.1:{probe.getsockname()[1]}" for probe in ports]
        self.running: list[Child] = []

    def start(self) -> None:
        self.running = [
            Child("bench.fanout_server", at, SERVICES, ENDPOINTS, stderr=subprocess.DEVNULL) for at in self.addresses
        ]

    def ask(self, what: str) -> list[dict[str, float]]:
        return [one.ask(what) for one in self.running]

    def kill(self) -> None:
        for one in self.running:
            one.end()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fault_03_all_replicas_of_a_thousand_agents_are_killed_and_restarted(
    record_property: Callable[[str, object], None],
) -> None:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    replicas = Replicas(3)
    with ExitStack() as ends:
        ends.callback(replicas.kill)
        replicas.start()
        where = ",".join(replicas.addresses)
        agents = Child("bench.fanout_agents", where, SERVICES, ENDPOINTS, stderr=subprocess.DEVNULL)
        ends.callback(agents.end)
        agents.ask("join", number=AGENTS)
        for one in replicas.running:
            one.ask("flow", rate=100.0, seconds=CHANGES / 100)
        replicas.kill()
        began = time.monotonic()
        replicas.start()
        agents.tell("synced", epochs=[one["epoch"] for one in replicas.ask("usage")])

        took = agents.answer()["at"] - began

        usage = replicas.ask("usage")
        peak = max(one["peak_kib"] for one in usage)
        record_property("seconds until all followed", round(took, 1))
        record_property("peak MiB of a replica", round(peak / 1024))
        record_property("streams of each replica", [one["nodes"] for one in usage])
        assert sum(one["nodes"] for one in usage) == AGENTS
        assert agents.ask("count")["defects"] == 0
        assert took < LIMIT
        assert peak < MEMORY
