"""The time an endpoint changed travels from the source's fact to the agent's metric, whatever is merged on the way."""

from __future__ import annotations

import time

from controlplane.facts import Fact
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.commit_hooks import Watchers
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.metrics.registry import Metrics
from nodeagent.node.node_info import Here
from nodeagent.web.health import Health
from tests.fakes.nftables.memory import MemoryKernel
from tests.sessions import objects
from tests.sessions.link import Replica

NAME = "kubeproxy_network_programming_duration_seconds_count"


def test_from_the_annotation_to_the_metric() -> None:
    metrics, dataplane, replica = Metrics(), NftablesDataplane(MemoryKernel()), Replica()
    dataplane.start()
    watchers = Watchers(Health(60.0), metrics, dataplane.pending)
    agent = Agent(Here("n1"), dataplane, followers=(watchers,), metrics=metrics)
    replica.put(Fact(objects.service(1).key, objects.service(1)))
    stream = replica.stream()
    stream.on_message(pb.WatchRequest.FromString(agent.connected(0.0)), 0.0)

    def step() -> float | None:
        while (message := stream.next_message(0.0)) is not None:
            agent.received(message, 0.0)
        return metrics.registry.get_sample_value(NAME, {"ip_family": "IPv4"})

    assert step() == 0  # a snapshot tells of no change
    for version in (1, 2):  # two changes of one slice, which travel merged
        slice_ = objects.slice_of(1, {version: objects.READY})
        replica.put(Fact(slice_.key, slice_, trigger_unix_nano=time.time_ns()))
    assert step() == 2
    replica.put(Fact(slice_.key, None))
    assert step() == 2
    agent.close()
