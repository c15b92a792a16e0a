"""The agent's parts, joined: the one place that knows them all. Called by `nodeagent.main`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltaplane
from deltaplane import logs, supervise
from deltaplane.addresses import parse_address
from deltaplane.explain import Site
from deltaplane.frontends import Slot
from deltaplane.grpc_servers import handlers_ended
from deltaplane.loop_meter import LoopMeter
from deltaplane.supervise import Job
from nodeagent.agent import Agent
from nodeagent.config import AgentSettings
from nodeagent.config import watch as config_watch
from nodeagent.conntrack.cleaner import Cleaner, Swept
from nodeagent.conntrack.table import NetlinkTable
from nodeagent.dataplane.at_home import AtHome
from nodeagent.dataplane.commit_hooks import CommitHook, Flows, HealthChecks, Watchers
from nodeagent.dataplane.guard import Guarded
from nodeagent.dataplane.modes import Choice, Others, alone, hand_over, open_dataplane
from nodeagent.dataplane.modes.leftovers import Leftovers
from nodeagent.linux.readable import readable
from nodeagent.metrics.registry import Metrics
from nodeagent.node import bridges, oom, sysctl
from nodeagent.node.addresses.monitor import Monitor, follow
from nodeagent.node.addresses.node_ports import NodePorts
from nodeagent.node.addresses.selection import parse as parse_policy
from nodeagent.node.boot import boot_id
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream import credentials
from nodeagent.stream.beside import Beside, always
from nodeagent.stream.client import Client
from nodeagent.stream.handshake import Mode
from nodeagent.stream.journal import Journal
from nodeagent.stream.last_good import LastGood
from nodeagent.stream.old_place import take_over
from nodeagent.stream.servers import WAYS, Servers
from nodeagent.stream.state_folder import RELEASE
from nodeagent.sync.programmer import REPAIR_PAUSE
from nodeagent.web import grpc_health, site
from nodeagent.web.nodeports import HealthCheckNodePorts

if TYPE_CHECKING:
    from nodeagent.drain.drain import Drain

log = logging.getLogger(__name__)

Runs = Callable[[], Coroutine[Any, Any, object]]  # gives what runs until it is cancelled

LAST_CALL = 20.0  # seconds that the end waits for a commit that is under way; Kubernetes kills after 30


async def run(settings: AgentSettings, choice: Choice, meter: LoopMeter) -> None:
    """Runs the agent in this mode until SIGTERM, SIGINT or a changed configuration.

    Raises `AgentError`, OSError or `supervise.Ended` for what ends the program.
    """
    watch = supervise.Watch()
    watch.install()
    await App(settings, choice, meter, watch).run()
    logs.event(log, logging.INFO, "stopped; the rules stay")


class App:
    """One agent. The constructor joins its parts; `run` starts them."""

    def __init__(self, settings: AgentSettings, choice: Choice, meter: LoopMeter, watch: supervise.Watch) -> None:
        self._settings, self._choice, self._watch = settings, choice, watch
        self._opened = open_dataplane(settings)
        self._dataplane = self._opened.dataplane
        self._started = asyncio.Event()
        self._beside = Beside(watch.failed)
        self._metrics = self._measured(meter)
        self._health = site.health(settings)
        self._ports = HealthCheckNodePorts(lambda: self._health.healthy)
        self._monitor = Monitor()
        self._cleaner = Cleaner(NetlinkTable(), self._count, lambda: self._monitor.addresses)
        self._flows = Flows(self._cleaner)
        self._leftovers = Leftovers(Others(choice.mode, self._opened).remove, settings.drain_seconds)
        dialler, count = self._dialler(), self._metrics.ends.ended
        self._drain = self._draining(dialler)
        self._agent = self._joined()
        kept = LastGood(settings.state_dir) if settings.state_dir else None
        self._servers = Servers(settings.servers, self._reserve, kept)
        self._client = Client(
            settings.servers, self._agent, defect=watch.failed, beside=self._beside, dialler=dialler, count=count,
            directory=self._servers, early=self._metrics.ends.early,
        )  # fmt: skip

    def _draining(self, dialler: credentials.Dialler) -> Drain | None:
        if not self._settings.drain_listen:
            return None
        from nodeagent.drain.drain import Drain

        drain = Drain(
            self._settings, self._beside.turn, mirror=lambda: self._agent.mirror,
            addresses=lambda: self._monitor.addresses, dialler=dialler, place=lambda: self._client.place,
        )  # fmt: skip
        self._metrics.registry.register(drain.figures)
        return drain

    def _measured(self, meter: LoopMeter) -> Metrics:
        choice, metrics = self._choice, Metrics(self._dataplane.mode)
        metrics.chose(choice.asked, choice.mode, fell_back=choice.fell_back)
        metrics.show(self._dataplane, lambda: self._beside.busy)
        metrics.registry.register(meter)
        metrics.watch(self._watch.failures)
        return metrics

    def _dialler(self) -> credentials.Dialler:
        made = credentials.dialler(self._settings.security, self._settings.servers)
        if isinstance(made, credentials.Secure):
            self._metrics.shows(made.kept)
        return made

    def _joined(self) -> Agent:
        settings, choice = self._settings, self._choice
        policy = NodePorts(parse_policy(settings.node_port_addresses))
        bind = parse_address(settings.bind_address) if settings.bind_address else None
        return Agent(
            NodeInfo(settings.node_name, policy, lambda: self._monitor.addresses, bind, settings.cluster_cidrs),
            self._dataplane,
            self._journal(),
            boot_id=boot_id(),
            mode=Mode(choice.mode, choice.asked, choice.reason),
            hooks=[AtHome(self._beside.at_home, self._hooks())],
            metrics=self._metrics,
            follow_cidrs=self._opened.follow,
            release_file=Path(settings.state_dir) / RELEASE if settings.state_dir else None,
            state_max_age=settings.state_max_age,
            gather=settings.configuration.iptables.min_sync_period.seconds,
        )

    def _hooks(self) -> list[CommitHook]:
        hooks: dict[str, CommitHook] = {
            "conntrack": self._flows,
            "health check ports": HealthChecks(self._ports),
            "health and metrics": Watchers(self._health, self._metrics, self._dataplane.pending),
            "leftovers": self._leftovers,
            **({} if self._drain is None else {"drain": self._drain.hook}),
        }
        return [Guarded(name, hook, self._watch.failed) for name, hook in hooks.items()]

    def _journal(self) -> Journal | None:
        if not self._settings.state_dir:
            return None
        take_over(Path(self._settings.state_dir), self._settings.node_name)
        journal = Journal(self._settings.state_dir, self._settings.node_name)
        self._metrics.keeps(journal)
        return journal

    def _count(self, swept: Swept) -> None:
        self._metrics.conntrack(swept.family, swept.seconds, swept.deleted)

    # ------------------------------------------------------------ while it runs

    async def run(self) -> None:
        """Runs until a signal; what ends before it ends the program with its error."""
        try:
            await supervise.together(Job("signals", supervise.at_signal().wait(), finishes=True), *self._jobs())
            if self._started.is_set() and await self._beside.close(LAST_CALL):
                await self._hand_over()
        finally:
            await self._close()
            await handlers_ended()

    def _jobs(self) -> list[Job]:
        """Pages and probes answer at once. The rest begins once the kernel is read (`_serve`).

        The jobs for flows, ports, leftovers, server names and bridges are restarted when they fail: the kernel is
        programmed without them. The end of any other job ends the program: the node must not look served then.
        """
        settings = self._settings
        again: dict[str, Runs] = {
            "conntrack": self._cleaner.run,
            "health check ports": self._ports.run,
            "servers": self._servers.run,
        }
        if not settings.beside_kube_proxy:
            again["leftovers"] = self._leftovers.run
        if self._dataplane.mode in bridges.MODES:
            again["bridges"] = bridges.watch
        later: dict[str, Runs] = {
            **{name: partial(self._watch.restarting, name, run) for name, run in again.items()},
            "addresses": partial(follow, self._monitor, lambda: self._client.aside(self._agent.machine_changed)),
            "kernel events": self._listen,
        }
        jobs = [
            Job("stream", self._serve()),
            *site.site(settings, self._health, self._metrics, lambda: self._agent.mirror.nodes.get(settings.node_name)),
            *(Job(name, self._once_started(run)) for name, run in later.items()),
        ]
        jobs += [] if self._drain is None else self._drain.jobs()
        if settings.health_listen:
            jobs.append(Job("gRPC health", grpc_health.serve(settings.health_listen, lambda: self._agent.complete)))
        if settings.inspect_socket:
            jobs.append(Job("inspection", self._inspected(settings.inspect_socket)))
        if settings.config_file:
            jobs.append(Job("configuration", config_watch.changed(settings.config_file), finishes=True))
        return jobs

    async def _inspected(self, path: str) -> None:
        """Answers what is asked of this agent on its node, between two of its calls."""
        from nodeagent.inspection import service as inspection
        from nodeagent.inspection.facts import Facts, site_of

        await self._started.wait()

        def site(facts: Facts) -> Site:
            return site_of(facts, self._settings, self._monitor.addresses)

        turn = partial(self._beside.turn, long=always)
        await inspection.serve(path, inspection.Inspection(turn, self._agent.facts, site, self._client.link))

    async def _serve(self) -> None:
        """Reads the kernel, which may take seconds, then the journal, then follows a replica."""
        await self._beside.turn(self._dataplane.start, long=always)
        self._set_up()
        await self._servers.begin()
        logs.event(
            log, logging.INFO, "started", version=deltaplane.__version__, node=self._settings.node_name,
            mode=self._dataplane.mode, servers=",".join(self._settings.servers),
        )  # fmt: skip
        self._started.set()
        await self._client.aside(lambda: self._agent.recover(_alone))
        await self._client.run()

    def _set_up(self) -> None:
        """What is done and said only where this kernel can do the mode."""
        _tell(self._choice)
        for note in self._settings.notes:
            logs.event(log, logging.INFO, "setting without effect", note=note)
        oom.adjust(self._settings.oom_score_adj)
        if not self._settings.beside_kube_proxy:
            sysctl.setup(self._settings.conntrack)
        self._flows.adopt(self._dataplane)

    async def _once_started(self, run: Runs) -> None:
        await self._started.wait()
        await run()

    async def _reserve(self, slots: frozenset[Slot]) -> None:
        await self._client.aside(partial(self._agent.reserve, WAYS, slots))

    async def _listen(self) -> None:
        """Has the agent repair what others changed, at once or when its pause between two repairs is over."""
        while (descriptor := self._dataplane.fileno()) >= 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(REPAIR_PAUSE if self._agent.drifted else None):
                    await readable(descriptor)
            await self._client.aside(self._agent.kernel_changed)
        await asyncio.Event().wait()  # this mode cannot hear of changes

    # ------------------------------------------------------------ the end

    async def _hand_over(self) -> None:
        """Where this process itself carries connections, serves until a successor has taken over, or until a signal."""
        if not await hand_over.finish(self._dataplane, self._settings.drain_seconds, supervise.at_signal()):
            logs.event(log, logging.WARNING, "connections that go through this agent end with it")

    async def _close(self) -> None:
        """Closes what the agent has open, unless it is still in a long call: then the end of the process does it."""
        if not self._started.is_set():
            return  # the start of a dataplane changes nothing, and closes what it opened where it fails
        if await self._beside.close(LAST_CALL):
            self._agent.close()
        else:
            logs.event(log, logging.WARNING, "ends in the middle of a commit; the next start compares the kernel")


def _tell(choice: Choice) -> None:
    """One line where another mode is in use than was asked for, or than auto would rather have."""
    if choice.fell_back:
        what = f"proxy mode {choice.asked} cannot work here: mode {choice.mode} is in use"
        logs.event(log, logging.WARNING, what, reason=choice.reason)
    elif choice.reasons:
        logs.event(log, logging.INFO, f"proxy mode {choice.mode} is taken", reason=choice.reason)


def _alone() -> bool:
    """Whether the journal's state may go to the kernel; says why it waits where it may not."""
    found = alone()
    if not found:
        logs.event(log, logging.INFO, "another mode or kube-proxy serves here: the kernel waits for a replica's word")
    return found
