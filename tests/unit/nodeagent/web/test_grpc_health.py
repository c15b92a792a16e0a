"""The health service for gRPC probes: not serving, then serving, on the address that was asked for."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nodeagent.errors import AgentError
from nodeagent.web.grpc_health import SERVICES, serve
from tools.lab.ports import free_port

STATUS = health_pb2.HealthCheckResponse


async def test_it_serves_once_the_state_is_complete_under_each_of_its_names() -> None:
    port, complete = free_port(), asyncio.Event()
    task = asyncio.create_task(serve(f"127.0.0.1:{port}", complete.is_set))
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel, asyncio.timeout(20):
        probe: Any = health_pb2_grpc.HealthStub(channel)
        for service in SERVICES:
            answer = await probe.Check(health_pb2.HealthCheckRequest(service=service), wait_for_ready=True)
            assert answer.status == STATUS.NOT_SERVING
        watch = probe.Watch(health_pb2.HealthCheckRequest(service=SERVICES[1]))
        assert (await watch.read()).status == STATUS.NOT_SERVING
        complete.set()
        assert (await watch.read()).status == STATUS.SERVING
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


async def test_an_address_that_cannot_be_bound_is_an_error_that_names_the_flag() -> None:
    with pytest.raises(AgentError, match=r"--health-listen=192\.0\.2\.1:1: cannot bind"):
        await serve("192.0.2.1:1", lambda: False)
