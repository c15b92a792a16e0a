"""A wall clock beyond what 64 bits of nanoseconds hold: streams live, and operators are answered."""

from __future__ import annotations

import time

import grpc.aio
import pytest

from deltaplane import moments
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from nodeagent.dataplane.outcome import Failed
from nodeagent.sync.reporting import to_messages
from tests.sessions import objects
from tests.unit.controlplane.test_server import HELLO, opened

FAR = 20 * 10**18  # the year 2603


@pytest.fixture(autouse=True)
def _far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: FAR + time.monotonic_ns())


async def test_a_replica_welcomes_takes_acks_and_answers() -> None:
    async with opened() as place, grpc.aio.insecure_channel(place.address) as channel:
        await place.say(hello=HELLO)
        welcome = (await place.read("welcome")).welcome
        assert welcome.server_time_unix_nano == moments.MOST
        head = (await place.read("snapshot_end")).snapshot_end
        await place.say(ack=pb.Ack(received_rev=head.rev, applied_rev=head.rev, committed_unix_nano=moments.MOST))
        ask = InspectionServiceStub(channel)
        status = await ask.GetStatus(inspection_pb2.GetStatusRequest())
        (node,) = (await ask.ListNodes(inspection_pb2.ListNodesRequest())).nodes
        assert (status.connected_nodes, node.node_name) == (1, "n1")
        assert 0 < node.connected_unix_nano <= moments.MOST


def test_an_agents_failures_are_told() -> None:
    failed = Failed(objects.service_key(1), "KERNEL_BUSY", "busy")
    (message,) = to_messages([failed], lambda _: 1, moments.unix_nano(), 3.0)
    assert message.retry_unix_nano == moments.MOST
