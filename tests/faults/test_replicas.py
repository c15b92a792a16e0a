"""Fault cases 10 and 11: a replica that has not seen all that others have."""

from __future__ import annotations

import time
from contextlib import ExitStack

import grpc
import pytest

from tests.faults.api import VIP, api, endpoint_slice, following, service
from tests.faults.clients import client
from tests.faults.world import Replica, World, address, until


def test_fault_10_failover_to_a_replica_that_is_behind(bare: World) -> None:
    with ExitStack() as stack:
        ahead, behind = (stack.enter_context(api(bare.folder / name)) for name in ("ahead", "behind"))
        for one in (ahead, behind):
            one.put("services", service(1, VIP))
            one.put("endpointslices", endpoint_slice(1, [address(1)]))
        first, second = following(bare, ahead), following(bare, behind)
        first.start()
        bare.agent()
        bare.holds()
        bare.truth[1] = [address(2)]
        ahead.put("endpointslices", endpoint_slice(1, [address(2)]))
        bare.holds()
        newest = bare.kernel(bare.agents[0])
        first.kill()
        second.start()
        until(lambda: "n0" in second.nodes(), "an agent that connects")
        end = time.monotonic() + 2.0
        while time.monotonic() < end:
            assert bare.kernel(bare.agents[0]) == newest, "an older state"

        behind.put("endpointslices", endpoint_slice(1, [address(2)]))
        bare.holds()


def test_fault_11_a_replica_has_synced_slices_and_not_services(bare: World) -> None:
    with api(bare.folder / "api") as server:
        server.put("services", service(1, VIP))
        server.put("endpointslices", endpoint_slice(1, [address(1)]))
        server.held.add("services")
        replica = following(bare, server)
        process = super(Replica, replica).start()
        until(lambda: "started" in process.output(), "a replica that listens")
        bare.agent()
        with client(replica.address, "early") as early, pytest.raises(grpc.RpcError) as refused:
            early.read()
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "connected" not in bare.agents[0].running.output()

        server.release()

        bare.holds()
