"""WaitApplied for a pod that leaves, over three replicas: what each says of its own nodes, and when it says so."""

from __future__ import annotations

import asyncio

import pytest

from controlplane.facts import Fact
from deltaplane.model import EndpointSlice
from tests.sessions import objects
from tests.unit.controlplane.inspection.calls import LEAVING
from tests.unit.controlplane.inspection.test_everywhere import three


async def test_a_pod_is_let_go_when_the_last_replicas_nodes_have_let_it_go() -> None:
    async with three() as world:
        for replica in world.replicas:
            piece = objects.slice_of(1, {1: objects.READY, 2: objects.READY})
            replica.cluster.update([Fact(piece.key, piece, "300")])
        held = asyncio.ensure_future(world.wait(0, removed_address="10.0.0.1"))
        left = objects.slice_of(1, {2: objects.READY})
        for replica in world.replicas[:2]:
            replica.cluster.update([Fact(left.key, left, "301")])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(held)
        world.replicas[2].cluster.update([Fact(left.key, left, "301")])
        assert (await held).applied


async def test_what_another_replica_said_before_a_pod_was_used_again_does_not_count() -> None:
    leaving, later = objects.slice_of(1, {1: LEAVING, 2: objects.READY}), objects.slice_of(1, {1: LEAVING})
    async with three() as world:

        async def change(piece: EndpointSlice, version: str) -> None:
            for replica in world.replicas:
                replica.cluster.update([Fact(piece.key, piece, version)])
            await asyncio.sleep(1.0)

        await change(later, "300")
        world.agents[2].acks.clear()
        held = asyncio.ensure_future(world.wait(0, 12.0, removed_address="10.0.0.1"))
        await change(leaving, "301")  # n0 and n1 have let go
        world.agents[1].acks.clear()
        await change(later, "302")
        await change(leaving, "303")
        world.agents[2].acks.set()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await asyncio.shield(held)
        world.agents[1].acks.set()
        assert (await held).applied
