"""The time an endpoint changed travels from the source's fact to the agent's metric, whatever is merged on the way."""

from __future__ import annotations

import time

from controlplane.facts import Fact
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.agent import Agent
from nodeagent.dataplane.commit_hooks import Watchers
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.metrics.registry import Metrics
from nodeagent.node.node_info import NodeInfo
from nodeagent.web.health import Health
from tests.fakes.nftables.memory import MemoryKernel
from tests.sessions import objects
from tests.sessions.link import Replica

NAME = "kubeproxy_network_programming_duration_seconds_count"


def test_from_the_annotation_to_the_metric() -> None:
    metrics, dataplane, replica = Metrics(), NftablesDataplane(MemoryKernel()), Replica()
    dataplane.start()
    watchers = Watchers(Health(60.0), metrics, dataplane.pending)
    agent = Agent(NodeInfo("n1"), dataplane, hooks=(watchers,), metrics=metrics)
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


def test_a_change_is_measured_from_its_event_to_the_kernel_and_a_snapshot_is_not() -> None:
    metrics, dataplane, replica = Metrics(), NftablesDataplane(MemoryKernel()), Replica()
    dataplane.start()
    agent = Agent(NodeInfo("n1"), dataplane, metrics=metrics)
    replica.put(Fact(objects.service(1).key, objects.service(1), event_unix_nano=time.time_ns()))
    stream = replica.stream()
    stream.on_message(pb.WatchRequest.FromString(agent.connected(0.0)), 0.0)

    def step() -> tuple[float | None, float | None]:
        while (message := stream.next_message(0.0)) is not None:
            agent.received(message, 0.0)
        count = metrics.registry.get_sample_value
        stage = count("deltaplane_agent_stage_seconds_count", {"stage": "commit"})
        return count("deltaplane_agent_propagation_seconds_count"), stage

    assert step() == (0, 0)
    replica.put(Fact(objects.service(1).key, objects.service(1, 2), event_unix_nano=time.time_ns()))
    assert step() == (1, 1)
    agent.close()
