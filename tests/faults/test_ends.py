"""Fault cases 1, 2, 4, 14, 21, 22, 26, 27 and 29: a program ends, stands still or is lied to by its machine."""

from __future__ import annotations

import signal
import subprocess
import time
from itertools import count
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from controlplane.readiness import QUIET_SECONDS
from nodeagent.stream.journal_file import NAME
from tests.faults.world import World, address, until
from tools.lab import rules

DIE = "import os, signal\ndef die(): os.kill(os.getpid(), signal.SIGKILL)\n"
KERNEL = DIE + "from nodeagent.linux.nft.kernel import NetlinkKernel as K\nreal = K.commit\ncalls = iter(range(99))\n"
POINTS = {  # where the agent ends, at its second commit: the first is the whole state
    "between receive and commit": KERNEL + "K.commit = lambda *a: die() if next(calls) > 0 else real(*a)",
    "inside the transaction": KERNEL
    + "replies = K._replies\nK._replies = lambda *a: die() if next(calls) > 0 else replies(*a)",
    "between commit and Ack": KERNEL
    + "def commit(*a):\n    done = real(*a)\n    return die() if next(calls) > 0 else done\nK.commit = commit",
}


@pytest.mark.parametrize("point", POINTS)
def test_fault_01_an_agent_is_killed(empty: World, point: str) -> None:
    empty.replica()
    agent = empty.agent(start=False)
    agent.before = POINTS[point]
    agent.start()
    until(empty.settled, "the first state")
    empty.put(1, [address(99)])
    until(lambda: not (agent.process and agent.process.running), "an agent that ends")

    agent.before = ""
    agent.start()

    empty.holds()


SENT = (
    DIE + "from controlplane.session import Session as S\nfrom deltaplane.v1 import delta_pb2 as pb\n"
    "real = S.next_message\n"
    "def next_message(*a):\n    data = real(*a)\n"
    "    kind = data and pb.WatchResponse.FromString(data).WhichOneof('message')\n"
    "    return die() if kind == '{kind}' else data\nS.next_message = next_message\n"
)


@pytest.mark.parametrize("kind", ["snapshot_chunk", "snapshot_end", "delta"])
def test_fault_02_a_replica_is_killed_in_the_middle_of_a_snapshot_or_before_a_delta(empty: World, kind: str) -> None:
    replica = empty.replica(before=SENT.format(kind=kind))
    empty.agent()
    if kind == "delta":
        until(empty.settled, "the first state")
        empty.put(1, [address(99)])
    until(lambda: not (replica.process and replica.process.running), "a replica that ends")

    replica.before = ""
    replica.start()

    empty.holds()


@pytest.mark.slow
def test_fault_04_replicas_are_restarted_in_turn_under_a_hundred_changes_a_second(pair: World) -> None:
    numbers = count()

    def change(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            number = next(numbers)
            pair.put(number % 3 + 1, [address(100 + number % 200)])
            time.sleep(0.01)

    for replica in pair.replicas:
        change(2)
        assert replica.process is not None
        replica.process.signal(signal.SIGTERM)
        change(2)
        replica.stop()
        replica.start()
    change(2)

    pair.holds()


@pytest.mark.parametrize("seconds", [600, pytest.param(-600, marks=pytest.mark.slow)])
def test_fault_21_the_clock_of_a_node_is_ten_minutes_off_and_steps(empty: World, seconds: int) -> None:
    empty.replica()
    agent = empty.agent(start=False)
    agent.before = stepping(seconds)
    agent.start()
    changes_reach_the_kernel(empty)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_fault_21_the_clock_of_a_node_is_a_day_off_and_steps(empty: World, seconds: int) -> None:
    replica = empty.replica()
    agent = empty.agent(start=False)
    agent.before = stepping(seconds)
    agent.start()
    changes_reach_the_kernel(empty)
    assert replica.output().count("agent connected") == 1

    agent.kill()
    agent.before = stepping(-seconds)  # what it kept is two days older now, or from the day after tomorrow
    agent.start()
    changes_reach_the_kernel(empty)

    assert replica.output().count("agent connected") == 2
    assert "state recovered" in agent.output()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [86_400, -86_400])
def test_fault_21_the_clock_of_a_replica_is_a_day_off_and_steps(empty: World, seconds: int) -> None:
    empty.replica(before=stepping(seconds))
    empty.agent()
    changes_reach_the_kernel(empty)


FAR = """
import time
time.time = lambda: 2e10 + time.monotonic()
time.time_ns = lambda: 20 * 10**18 + time.monotonic_ns()
"""


@pytest.mark.slow
def test_the_clocks_of_a_node_and_a_replica_are_beyond_64_bits_of_nanoseconds(empty: World) -> None:
    replica = empty.replica(before=FAR)
    agent = empty.agent(start=False)
    agent.before = FAR
    agent.start()
    changes_reach_the_kernel(empty)
    assert set(replica.nodes()) == {"n0"}
    for part in (replica, agent):
        assert "Traceback" not in part.output()


def stepping(seconds: int) -> str:
    """Has a program's wall clock off by so much, and by as much the other way after four seconds. No namespace has a
    wall clock of its own (time_namespaces(7)), and the machine's is everybody's."""
    return (
        "import time\nsince, wall, wall_ns = time.monotonic(), time.time, time.time_ns\n"
        f"def off(): return {seconds} if time.monotonic() - since < 4 else {-seconds}\n"
        "time.time = lambda: wall() + off()\ntime.time_ns = lambda: wall_ns() + off() * 10**9\n"
    )


def changes_reach_the_kernel(empty: World) -> None:
    began = time.monotonic()
    for number in count():
        empty.removed(1, empty.truth[1][0])
        empty.put(1, [address(50 + number), address(90 + number)])
        empty.holds()
        if time.monotonic() - began > 6:
            break

    empty.holds()


def test_fault_26_the_trace_collector_is_down(empty: World) -> None:
    empty.replica("--otlp-endpoint=127.0.0.1:1", "--trace-sample-ratio=1")
    empty.agent()
    empty.holds()
    for number in range(20):
        empty.put(1, [address(200 + number), address(7)])
    empty.removed(1, address(7))

    empty.holds()


def test_fault_27_the_state_folders_disk_is_full(empty: World) -> None:
    empty.replica()
    agent = empty.agent(start=False)
    state = empty.folder / "state0"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=700", "full", str(state)], check=True)
    try:
        agent.start()
        empty.holds()
        empty.put(2, [address(number) for number in range(500, 1300)])
        empty.removed(1, empty.truth[1][0])
        empty.holds()
        agent.kill()
        empty.put(3, [address(5)])
        agent.start()
        empty.holds()
    finally:
        agent.kill()
        subprocess.run(["umount", str(state)], check=True)


def damaged(content: bytes) -> dict[str, bytes]:
    middle = len(content) // 2
    return {
        "a bit flipped": content[:middle] + bytes((content[middle] ^ 1,)) + content[middle + 1 :],
        "cut off": content[:middle],
        "zeros": bytes(len(content)),
        "something else": b"\x7fELF" + content,
    }


@pytest.mark.slow
def test_fault_27_the_state_file_is_damaged(empty: World) -> None:
    empty.replica()
    agent = empty.agent()
    empty.holds()
    file = empty.folder / "state0" / NAME
    for number, how in enumerate(damaged(b"0123")):
        agent.kill()
        file.write_bytes(damaged(file.read_bytes())[how])
        empty.put(1, [address(200 + number), address(7)])
        agent.start()
        empty.holds()


BLOCKED = (
    "import asyncio, signal, time\nimport controlplane.server as s\nreal = s.Server.run\n"
    "async def run(self):\n    loop = asyncio.get_running_loop()\n"
    "    loop.add_signal_handler(signal.SIGUSR1, time.sleep, 5)\n    await real(self)\ns.Server.run = run\n"
)


@pytest.mark.slow
def test_fault_29_the_event_loop_of_a_replica_is_blocked_for_five_seconds(empty: World) -> None:
    replica = empty.replica(before=BLOCKED)
    empty.agent()
    empty.holds()
    probe: Any = health_pb2_grpc.HealthStub(replica.channel)

    def ready(name: str = "") -> bool:
        try:
            answer = probe.Check(health_pb2.HealthCheckRequest(service=name), timeout=10)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    assert ready()
    replica.running.signal(signal.SIGUSR1)
    empty.put(1, [address(99)])
    until(lambda: not ready(), "a replica that is not ready")

    assert ready("liveness")
    empty.holds()
    until(ready, "a replica that is ready again", QUIET_SECONDS + 10)
    assert empty.agents[0].running.output().count("connected server=") == 1


def test_fault_18_an_outsider_flushes_the_rules(pair: World) -> None:
    for words in (("flush", "ruleset"), ("delete", "table", "ip", "deltaplane"),
                  ("flush", "map", "ip", "deltaplane", "endpoints")):  # fmt: skip
        for agent in pair.agents:
            assert agent.space is not None
            rules.nft(agent.space, *words)
            if words[1] == "ruleset":
                pair.witness(agent)
        pair.holds()


def test_fault_19_two_agents_claim_one_node(empty: World) -> None:
    replica = empty.replica()
    empty.agent(name="same")
    empty.agent(name="same")
    empty.agent(name="other")
    until(lambda: "superseded" in replica.running.output(), "a stream that is superseded")
    empty.agents[1].stop()
    empty.put(1, [address(99)])

    empty.holds()
