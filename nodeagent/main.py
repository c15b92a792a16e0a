"""`deltaplane agent`: wires stream, mirror, resolve and kernel on one node."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import deltaplane
from deltaplane import logs
from nodeagent.agent import Agent
from nodeagent.client import Client
from nodeagent.errors import AgentError
from nodeagent.health import Health
from nodeagent.journal import Journal
from nodeagent.program.dataplane import Dataplane
from nodeagent.settings import Settings, parse

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 1 with one line on standard error when it cannot run. The rules stay."""
    settings = parse(arguments)
    logs.configure(settings.verbosity)
    tune()
    try:
        asyncio.run(_run(settings))
    except AgentError as error:
        print(f"deltaplane agent: {error}", file=sys.stderr)
        return 1
    return 0


def tune() -> None:
    """The interpreter's settings for this program: values are `gc=False` structs, so there is little to find."""
    gc.set_threshold(50_000, 20, 1000)


async def _run(settings: Settings) -> None:
    dataplane = _dataplane(settings)
    dataplane.start()
    agent = Agent(settings.node_name, dataplane, _journal(settings), boot_id=_boot_id())
    agent.recover()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    health = Health(settings.health_listen) if settings.health_listen else None
    if health is not None:
        await health.start()
    logs.event(
        log, logging.INFO, "started", version=deltaplane.__version__, node=settings.node_name, mode=dataplane.mode,
        servers=",".join(settings.servers),
    )  # fmt: skip
    client = asyncio.create_task(Client(settings.servers, agent).run())
    probes = asyncio.create_task(_follow(agent, health))
    try:
        await _first_of(stop, client, probes)
    finally:
        for task in (client, probes):
            task.cancel()
        await asyncio.gather(client, probes, return_exceptions=True)
        if health is not None:
            await health.stop()
        agent.close()
    logs.event(log, logging.INFO, "stopped; the rules stay")


async def _first_of(stop: asyncio.Event, *tasks: asyncio.Task[None]) -> None:
    """Waits for the stop signal; a task that fails before it ends the program with its error."""
    waiter = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait([waiter, *tasks], return_when=asyncio.FIRST_COMPLETED)
    waiter.cancel()
    for task in done - {waiter}:
        task.result()


async def _follow(agent: Agent, health: Health | None) -> None:
    """Tells probes whether this node's kernel has a complete state."""
    while not agent.complete:  # noqa: ASYNC110 - the agent is synchronous and has no event to wait for
        await asyncio.sleep(0.2)
    if health is not None:
        await health.set(serving=True)
    await asyncio.Event().wait()  # once complete, always complete


def _journal(settings: Settings) -> Journal | None:
    def report(text: str) -> None:
        logs.event(log, logging.WARNING, "journal", text=text)

    return Journal(settings.state_dir, report=report) if settings.state_dir else None


def _boot_id() -> str:
    """The kernel's id of this boot; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _dataplane(settings: Settings) -> Dataplane:
    """Imports only the mode that is asked for."""
    from nodeagent.program.nftables.dataplane import NftablesDataplane
    from nodeagent.program.nftables.program import Settings as Nftables

    return NftablesDataplane(settings=Nftables(cluster_cidrs=settings.cluster_cidrs))
