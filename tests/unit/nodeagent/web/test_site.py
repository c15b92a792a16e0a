"""Both addresses as the settings say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from deltaplane.model import Node
from nodeagent.config import parse
from nodeagent.errors import AgentError
from nodeagent.metrics.registry import Metrics
from nodeagent.web.server import listen
from nodeagent.web.site import health, site
from tests.unit.nodeagent.web.client import Answer, get
from tools.lab.ports import free_port

RUN = ["--server=a:1", "--insecure", "--proxy-mode=nftables"]
Start = Callable[..., Metrics]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    tasks: list[asyncio.Task[object]] = []

    def started(*flags: str) -> Metrics:
        settings = parse([*RUN, *flags])
        metrics = Metrics(settings.proxy_mode)
        jobs = site(settings, health(settings), metrics, lambda: Node("a"))
        tasks.extend(asyncio.create_task(job.work) for job in jobs)
        return metrics

    yield started
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def page(port: int, path: str) -> Answer:
    async with asyncio.timeout(10):
        while True:
            try:
                return await get(port, path)
            except ConnectionRefusedError:
                await asyncio.sleep(0.01)


async def test_both_addresses_answer_and_probes_are_counted(start: Start) -> None:
    ready, shown = free_port(), free_port()
    metrics = start(f"--healthz-bind-address=127.0.0.1:{ready}", f"--metrics-bind-address=127.0.0.1:{shown}")

    assert (await page(ready, "/healthz")).status == (await page(ready, "/livez")).status == 200
    assert 'kubeproxy_proxy_healthz_total{code="200"} 1.0' in (await page(shown, "/metrics")).body
    assert (await page(shown, "/proxyMode")).body == "nftables"
    assert metrics.registry.get_sample_value("kubeproxy_proxy_livez_total", {"code": "200"}) == 1


def test_an_address_that_is_switched_off_is_not_served() -> None:
    settings = parse([*RUN, "--healthz-bind-address=", "--metrics-port=0"])

    assert site(settings, health(settings), Metrics(), lambda: None) == []


async def test_binding_may_be_fatal() -> None:
    with listen("127.0.0.1", 0) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = [f"--healthz-bind-address={address}", "--metrics-bind-address=", "--bind-address-hard-fail"]
        settings = parse([*RUN, *flags])
        (serving,) = site(settings, health(settings), Metrics(), lambda: None)
        with pytest.raises(AgentError, match="Address already in use"):
            await serving.work
