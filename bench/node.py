"""An agent without its stream, measured from inside: run in a process and a network namespace of its own by `agent`.

    python -m bench.node STREAM FOLDER PAUSE

STREAM holds framed WatchResponses: Welcome, a snapshot, then single changes, which are PAUSE seconds apart. FOLDER is
for the journal. Prints one JSON object of raw numbers (see `report`).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import cluster, machine
from deltaplane import heap, logs
from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import Settings
from nodeagent.dataplane.outcome import Commit
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.journal import Journal


class Counted(NftablesDataplane):
    """The real dataplane; remembers what each call did."""

    def __init__(self) -> None:
        super().__init__(settings=Settings(cluster_cidrs=cluster.CLUSTER_CIDRS))
        self.commits: list[Commit] = []

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        done = super().apply(services, node, complete=complete)
        self.commits.append(done)
        return done


def main(stream: str, folder: str, pause: str) -> None:
    logs.configure(2)
    heap.tune(whole=2000)
    dataplane = Counted()
    dataplane.start()
    agent = Agent(NodeInfo(cluster.NODE), dataplane, Journal(folder))
    agent.connected(time.monotonic())
    with Path(stream).open("rb") as file:
        messages = cluster.read(file)
        result: dict[str, Any] = {"before_kib": machine.rss()}
        result |= load(agent, messages) | {"loaded_kib": machine.rss(), "cold_elements": _elements(dataplane)}
        dataplane.commits.clear()
        result |= follow(agent, messages, float(pause))
    result["commits"] = [(done.messages, done.elements, done.size) for done in dataplane.commits]
    result |= {"rss_kib": machine.rss(), "peak_kib": machine.rss_peak()}
    agent.close()
    print(json.dumps(result))


def load(agent: Agent, messages: Any) -> dict[str, Any]:
    """The cold load. Times in seconds; the Ack says how long its parts took."""
    whole = [next(messages)]
    while not whole[-1] or pb.WatchResponse.FromString(whole[-1]).WhichOneof("message") != "snapshot_end":
        whole.append(next(messages))
    started = time.perf_counter()
    for message in whole[:-1]:
        agent.received(message, time.monotonic())
    ended = time.perf_counter()
    answers = agent.received(whole[-1], time.monotonic())
    done = time.perf_counter()
    (report,) = (commit for data in answers for commit in pb.WatchRequest.FromString(data).ack.commits)
    return {
        "decode": ended - started,
        "check": report.queued_ns / 1e9,
        "resolve": report.resolve_ns / 1e9,
        "commit": report.commit_ns / 1e9,
        "after_end": done - ended,
        "cold": done - started,
        "snapshot_bytes": sum(map(len, whole)),
    }


def follow(agent: Agent, messages: Any, pause: float) -> dict[str, Any]:
    """Every change from its bytes to the kernel's acknowledgement, in seconds; CPU seconds likewise."""
    took, cpu = [], []
    for message in messages:
        time.sleep(pause)
        spent, started = time.process_time(), time.perf_counter()
        agent.received(message, time.monotonic())
        took.append(time.perf_counter() - started)
        cpu.append(time.process_time() - spent)
    return {"took": took, "cpu": cpu}


def _elements(dataplane: Counted) -> int:
    return sum(done.elements for done in dataplane.commits)


if __name__ == "__main__":
    main(*sys.argv[1:])
