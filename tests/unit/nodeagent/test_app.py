"""The agent's parts joined: what answers, and when, from the start of the process on."""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress

import pytest

from deltaplane import supervise
from deltaplane.loop_meter import LoopMeter
from nodeagent import app, config
from nodeagent.dataplane.modes import Choice, Opened
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.errors import DataplaneUnavailable
from nodeagent.node import bridges
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.web.client import Answer, get
from tools.lab.ports import free_port

PATIENCE = 20.0


class ColdRead(NftablesDataplane):
    """A kernel that takes until `gate` is set to be read, and then may be none at all."""

    def __init__(self, error: str = "") -> None:
        super().__init__(MemoryKernel())
        self.gate = threading.Event()
        self.reading = threading.Event()
        self.closes = 0
        self._error = error

    def start(self) -> None:
        self.reading.set()
        assert self.gate.wait(PATIENCE)
        if self._error:
            raise DataplaneUnavailable(self._error)
        super().start()

    def close(self) -> None:
        self.closes += 1
        super().close()


class Quiet:
    """In place of what belongs to this machine: nothing is read from it or set in it."""

    addresses: frozenset[bytes] = frozenset()

    def __getattr__(self, name: str) -> object:
        return lambda *_, **__: ()


async def endless(*_: object) -> None:
    await asyncio.Event().wait()


@pytest.fixture
def apart(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The machine stays as it is."""
    for name in ("NetlinkTable", "Monitor"):
        monkeypatch.setattr(app, name, Quiet)
    for name in ("sysctl", "oom"):
        monkeypatch.setattr(app, name, Quiet())
    monkeypatch.setattr(app, "follow", endless)
    monkeypatch.setattr(bridges, "watch", endless)
    return monkeypatch


def running(apart: pytest.MonkeyPatch, dataplane: ColdRead, port: int, *flags: str) -> asyncio.Task[None]:
    apart.setattr(app, "open_dataplane", lambda _: Opened(dataplane))
    said = [
        "--server=127.0.0.1:1",
        "--insecure",
        "--hostname-override=n1",
        f"--healthz-bind-address=127.0.0.1:{port}",
        *flags,
    ]
    settings = config.parse([*said])
    return asyncio.create_task(app.run(settings, Choice("nftables", "nftables"), LoopMeter()))


async def answer(port: int, path: str) -> Answer:
    """As soon as somebody listens."""
    async with asyncio.timeout(PATIENCE):
        while True:
            with suppress(OSError):
                return await get(port, path)
            await asyncio.sleep(0.01)


async def until_logged(caplog: pytest.LogCaptureFixture, text: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while text not in caplog.text:  # noqa: ASYNC110 - a log has no event
            await asyncio.sleep(0.01)


async def test_pages_answer_while_a_large_kernel_is_read_and_the_rest_begins_after(
    apart: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dataplane, port = ColdRead(), free_port()
    task = running(apart, dataplane, port)

    assert (await answer(port, "/livez")).status == 200
    assert dataplane.reading.is_set()
    assert "started" not in caplog.text
    assert "not connected" not in caplog.text

    dataplane.gate.set()
    await until_logged(caplog, "not connected")
    assert "started" in caplog.text
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert dataplane.closes == 1


async def test_a_kernel_that_cannot_do_the_mode_ends_the_agent_with_its_reason_alone(
    apart: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    dataplane = ColdRead("no nf_tables here")
    dataplane.gate.set()
    task = running(apart, dataplane, free_port())

    with pytest.raises(DataplaneUnavailable, match="no nf_tables here"):
        await task
    assert "started" not in caplog.text
    assert dataplane.closes == 0


async def test_a_part_that_ends_by_itself_ends_the_agent_and_is_named(apart: pytest.MonkeyPatch) -> None:
    async def over(*_: object) -> None:
        """Returns at once."""

    apart.setattr(app, "follow", over)
    dataplane = ColdRead()
    dataplane.gate.set()

    with pytest.raises(supervise.Ended, match="addresses"):
        await running(apart, dataplane, free_port())
    assert dataplane.closes == 1
