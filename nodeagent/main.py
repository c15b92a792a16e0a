"""`deltaplane agent`: wires stream, mirror, resolve and kernel on one node."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Collection, Sequence
from ipaddress import ip_address
from pathlib import Path

import deltaplane
from deltaplane import logs, loop_meter, supervise
from deltaplane.loop_meter import LoopMeter
from deltaplane.supervise import Job
from nodeagent import config
from nodeagent.agent import REPAIR_PAUSE, Agent
from nodeagent.config import Settings, Task
from nodeagent.config import watch as config_watch
from nodeagent.conntrack.cleaner import Cleaner, Swept
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.commit_hooks import Flows, HealthChecks, Watchers
from nodeagent.dataplane.guard import Guarded
from nodeagent.dataplane.modes import Choice, Others, alone, chosen, cleanup, hand_over, open_dataplane
from nodeagent.dataplane.modes.leftovers import Leftovers
from nodeagent.errors import AgentError
from nodeagent.metrics.registry import Metrics
from nodeagent.node import bridges, oom, sysctl
from nodeagent.node.addresses.monitor import Monitor, follow
from nodeagent.node.addresses.node_ports import NodePorts
from nodeagent.node.addresses.selection import parse as parse_policy
from nodeagent.node.node_info import Here
from nodeagent.stream.client import Client
from nodeagent.stream.handshake import Mode
from nodeagent.stream.journal import Journal
from nodeagent.stream.servers import WAYS, Servers
from nodeagent.stream.state_folder import RELEASE
from nodeagent.web import site
from nodeagent.web.grpc_health import Health
from nodeagent.web.nodeports import HealthCheckNodePorts

log = logging.getLogger(__name__)


def main(arguments: Sequence[str]) -> int:
    """Runs until SIGTERM or SIGINT; 0 then, 1 with one line on standard error when it cannot run. The rules stay."""
    settings = config.parse(arguments)
    logs.configure(settings.verbosity)
    tune()
    try:
        return _carry_out(settings)
    except (AgentError, OSError, supervise.Ended) as error:
        print(logs.line(f"deltaplane agent: {error}"), file=sys.stderr)
        return 1


def _carry_out(settings: Settings) -> int:
    if settings.task is Task.WRITE_CONFIG:
        config.write(settings)
    elif settings.task is Task.INIT:
        return sysctl.init_only(settings.conntrack)
    elif settings.task is Task.CLEANUP:
        removed = [*cleanup(), *_forgotten(settings)]
        print(logs.line(f"removed: {', '.join(removed) or 'nothing was there'}"))
    else:
        choice = chosen(settings)
        meter = LoopMeter()
        loop_meter.run(_run(config.in_mode(settings, choice.mode), choice, meter), meter)
    return 0


def tune() -> None:
    """The interpreter's settings for this program: values are `gc=False` structs, so there is little to find."""
    gc.set_threshold(50_000, 20, 1000)


async def _run(settings: Settings, choice: Choice, meter: LoopMeter) -> None:
    watch = supervise.Watch()
    watch.install()
    opened = open_dataplane(settings)
    dataplane = opened.dataplane
    dataplane.start()  # where this kernel cannot do it, that is all there is to say
    _tell(choice)
    for note in settings.notes:
        logs.event(log, logging.INFO, "setting without effect", note=note)
    oom.adjust(settings.oom_score_adj)
    sysctl.setup(settings.conntrack)
    metrics = Metrics(dataplane.mode)
    metrics.chose(choice.asked, choice.mode, fell_back=choice.fell_back)
    metrics.show(dataplane)
    metrics.registry.register(meter)
    metrics.watch(watch.failures)
    healthy = site.health(settings)
    policy = NodePorts(parse_policy(settings.node_port_addresses))
    monitor = Monitor()
    checks = HealthCheckNodePorts(lambda: healthy.healthy)

    def machine() -> Collection[bytes]:
        return monitor.addresses

    cleaner = Cleaner(NetlinkTable(), lambda swept: _count(metrics, swept), machine)
    flows = Flows(cleaner)
    flows.adopt(dataplane)
    left = Leftovers(Others(choice.mode, opened).remove, settings.drain_seconds)
    bind = ip_address(settings.bind_address).packed if settings.bind_address else None
    agent = Agent(
        Here(settings.node_name, policy, machine, bind, settings.cluster_cidrs),
        dataplane,
        _journal(settings, metrics),
        boot_id=_boot_id(),
        mode=Mode(choice.mode, choice.asked, choice.reason),
        followers=(
            Guarded("conntrack", flows, watch.failed),
            Guarded("health check ports", HealthChecks(checks), watch.failed),
            Guarded("health and metrics", Watchers(healthy, metrics, dataplane.pending), watch.failed),
            Guarded("leftovers", left, watch.failed),
        ),
        metrics=metrics,
        follow_cidrs=opened.follow,
        release_file=Path(settings.state_dir) / RELEASE if settings.state_dir else None,
        state_max_age=settings.state_max_age,
    )
    servers = Servers(settings.servers, lambda slots: agent.reserve(WAYS, slots))
    await servers.begin()
    agent.recover(_alone)
    client = Client(settings.servers, agent, defect=watch.failed)
    # What looks after flows, ports and leftovers is started anew where it fails: the kernel is served without it.
    # The end of anything else ends the program, since nodes must not look served when they are not.
    again = {
        "conntrack": cleaner.run,
        "health check ports": checks.run,
        "leftovers": left.run,
        "servers": servers.run,
    }
    work = [
        Job("stream", client.run()),
        Job("callbacks", watch.broken()),
        *(Job(name, watch.restarting(name, run)) for name, run in again.items()),
        Job("addresses", follow(monitor, lambda: _moved(agent, client))),
        *site.site(settings, healthy, metrics, lambda: agent.mirror.nodes.get(settings.node_name)),
    ]
    if dataplane.fileno() >= 0:
        _listen(dataplane, agent, client, watch)
    if settings.health_listen:
        work.append(Job("gRPC health", _probes(agent, Health(settings.health_listen))))
    if dataplane.mode in bridges.MODES:
        work.append(Job("bridges", watch.restarting("bridges", bridges.watch)))
    if settings.config_file:
        work.append(Job("configuration", _until_changed(settings.config_file), finishes=True))
    logs.event(
        log, logging.INFO, "started", version=deltaplane.__version__, node=settings.node_name, mode=dataplane.mode,
        servers=",".join(settings.servers),
    )  # fmt: skip
    try:
        await _until_stopped(work)
        await _hand_over(dataplane, settings)
    finally:
        _deafen(dataplane)
        agent.close()
    logs.event(log, logging.INFO, "stopped; the rules stay")


def _tell(choice: Choice) -> None:
    """One line where another mode is in use than was asked for, or than auto would rather have."""
    if choice.fell_back:
        what = f"proxy mode {choice.asked} cannot work here: mode {choice.mode} is in use"
        logs.event(log, logging.WARNING, what, reason=choice.reason)
    elif choice.reasons:
        logs.event(log, logging.INFO, f"proxy mode {choice.mode} is taken", reason=choice.reason)


def _alone() -> bool:
    """Whether what is remembered may go to the kernel; says why it waits where it may not."""
    found = alone()
    if not found:
        logs.event(log, logging.INFO, "another mode or kube-proxy serves here: the kernel waits for a replica's word")
    return found


def _listen(dataplane: Dataplane, agent: Agent, client: Client, watch: supervise.Watch) -> None:
    """Lets the agent put right what others changed, at once or when its pause between two repairs is over."""

    def hear() -> None:
        agent.kernel_changed()
        client.plan()
        if agent.drifted:
            asyncio.get_running_loop().call_later(REPAIR_PAUSE, guarded)

    guarded = watch.guard("kernel events", hear)
    asyncio.get_running_loop().add_reader(dataplane.fileno(), guarded)


def _moved(agent: Agent, client: Client) -> None:
    agent.machine_changed()
    client.plan()


def _deafen(dataplane: Dataplane) -> None:
    """Hears no more of what others change, where that could be heard at all."""
    if dataplane.fileno() >= 0:
        asyncio.get_running_loop().remove_reader(dataplane.fileno())


async def _hand_over(dataplane: Dataplane, settings: Settings) -> None:
    """Serves on until a successor has taken over, where this process itself carries connections; a signal ends it."""
    loop, hurry = asyncio.get_running_loop(), asyncio.Event()
    _deafen(dataplane)  # what the successor changes is not to be put right
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hurry.set)
    if not await hand_over.finish(dataplane, settings.drain_seconds, hurry):
        logs.event(log, logging.WARNING, "connections that go through this agent end with it")


async def _until_stopped(work: Sequence[Job]) -> None:
    """Runs the work until a signal; what ends before it ends the program with its error."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await supervise.together(Job("signals", stop.wait(), finishes=True), *work)


async def _probes(agent: Agent, health: Health) -> None:
    """Tells gRPC probes whether this node's kernel has a complete state."""
    await health.start()
    try:
        while not agent.complete:  # noqa: ASYNC110 - the agent is synchronous and has no event to wait for
            await asyncio.sleep(0.2)
        await health.set(serving=True)
        await asyncio.Event().wait()  # once complete, always complete
    finally:
        await health.stop()


async def _until_changed(file: str) -> None:
    """A changed configuration ends the process, so that whoever supervises it starts it anew; the rules stay."""
    await config_watch.changed(file)
    logs.event(log, logging.INFO, "configuration changed", file=file)


def _count(metrics: Metrics, swept: Swept) -> None:
    metrics.conntrack(swept.family, swept.seconds, swept.deleted)


def _journal(settings: Settings, metrics: Metrics) -> Journal | None:
    def report(text: str) -> None:
        logs.event(log, logging.WARNING, "journal", text=text)

    if not settings.state_dir:
        return None
    journal = Journal(settings.state_dir, settings.node_name, report=report)
    metrics.keeps(journal)
    return journal


def _forgotten(settings: Settings) -> list[str]:
    """The journal goes with the rules, or the next start would program what it says."""
    if not settings.state_dir or not Journal(settings.state_dir).remove():
        return []
    return [f"the state in {settings.state_dir}"]


def _boot_id() -> str:
    """The kernel's id of this boot; empty where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
