"""Real processes of both sides on loopback: control planes that read one folder of manifests, and agents."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, STDOUT, Process
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from msgspec import json

from tests.streams.agents import State
from tools.lab.netns import Namespace
from tools.lab.ports import free_port

REPOSITORY = Path(__file__).parents[2]
COMMAND = """
import sys
from deltaplane import cli
cli.prepare()
from functools import partial
from controlplane import app, server
from controlplane.session import Limits
app.Server = partial(app.Server, limits=Limits(heartbeat={heartbeat}))
waits = (
    "grpc.keepalive_time_ms", "grpc.keepalive_timeout_ms", "grpc.http2.ping_timeout_ms",
    "grpc.server_handshake_timeout_ms",
)
scale = {keepalive} / dict(server.OPTIONS)[waits[0]]
server.OPTIONS = tuple((name, int(value * scale) if name in waits else value) for name, value in server.OPTIONS)
sys.exit(cli.main())
"""  # the program with other times: they are constants of the product, which no flag changes
AGENTS = """
from deltaplane import cli
cli.prepare()
from runpy import run_module
from tools.lab.ports import free_port
run_module("tests.streams.agents", run_name="__main__")
"""
PATIENCE = 60.0  # seconds that anything may take on a busy machine


class Program:
    """A Python program whose lines are collected, over restarts. `news` is notified of each line and of its end."""

    def __init__(
        self, *arguments: str, takes: Callable[[str], None] = lambda line: None, space: Namespace | None = None
    ) -> None:
        inside = () if space is None else ("ip", "netns", "exec", space.name)
        self._arguments = (*inside, sys.executable, *arguments)
        self._takes = takes
        self._process: Process | None = None
        self._collector: asyncio.Task[None] | None = None
        self.lines: list[str] = []
        self.news = asyncio.Condition()

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments, stdin=DEVNULL, stdout=PIPE, stderr=STDOUT, cwd=REPOSITORY,
            start_new_session=True,
        )  # fmt: skip
        self._collector = asyncio.create_task(self._collect(self._process))

    async def _collect(self, process: Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            async with self.news:
                self.lines.append(line.decode(errors="replace").rstrip())
                self._takes(self.lines[-1])
                self.news.notify_all()
        await process.wait()
        async with self.news:
            self.news.notify_all()

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.returncode is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):  # it has just ended
            os.kill(self.pid, number)

    @property
    def unexpected(self) -> list[str]:
        """The first traceback among its lines, with what stands around it."""
        first = next((at for at, line in enumerate(self.lines) if "Traceback" in line), None)
        return [] if first is None else self.lines[max(0, first - 5) : first + 60]

    async def until(self, true: Callable[[], bool]) -> None:
        """Waits until it is so; looked at after each line. Fails when the program ends meanwhile."""
        async with asyncio.timeout(PATIENCE), self.news:
            await self.news.wait_for(lambda: true() or not self.running)
        assert true(), "\n".join(self.lines[-20:])

    async def stop(self) -> None:
        """SIGTERM, and waits for the end; SIGKILL where it does not come."""
        if self._process is None or self._collector is None:
            return
        if self.running:
            self.signal(signal.SIGTERM)
            self.signal(signal.SIGCONT)
        try:
            await asyncio.wait_for(asyncio.shield(self._collector), 20)
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self._collector


class ControlPlane(Program):
    """`deltaplane controlplane` on a port of its own, which it keeps over restarts."""

    def __init__(
        self,
        manifests: Path,
        *flags: str,
        heartbeat: float = 10.0,
        keepalive: int = 20_000,
        space: Namespace | None = None,
    ) -> None:
        """`heartbeat` in seconds; `keepalive` in milliseconds: until a ping; its answer has half as long."""
        self.address = f"127.0.0.1:{free_port()}"
        command = COMMAND.format(heartbeat=heartbeat, keepalive=keepalive)
        super().__init__(
            "-c", command, "controlplane", "--source=manifests", f"--manifests={manifests}",
            f"--listen={self.address}", *(flags or ("--insecure",)), space=space,
        )  # fmt: skip

    async def start(self) -> None:
        """Returns when it serves."""
        before = len(self.lines)
        await super().start()
        await self.until(lambda: any("serving" in line for line in self.lines[before:]))


class Fleet:
    """Agents in processes: one process for each group of names. What each says is in `history`, the newest last."""

    def __init__(
        self,
        servers: Sequence[str],
        *groups: Sequence[str],
        silence: float = 30.0,
        space: Namespace | None = None,
        flags: Sequence[str] = ("--insecure",),
    ) -> None:
        self.history: dict[str, list[State]] = {name: [] for group in groups for name in group}
        self._news = asyncio.Event()
        self.programs = [
            Program(
                "-c", AGENTS, f"--servers={','.join(servers)}", f"--names={','.join(group)}",
                f"--silence={silence}", *flags, takes=self._take, space=space,
            )
            for group in groups
        ]  # fmt: skip

    def _take(self, line: str) -> None:
        if line.startswith("{"):
            state = json.decode(line, type=State)
            self.history[state.node].append(state)
            self._news.set()

    @property
    def states(self) -> list[State]:
        """The newest of each agent that said something."""
        return [states[-1] for states in self.history.values() if states]

    async def start(self) -> None:
        await asyncio.gather(*(program.start() for program in self.programs))

    async def until(self, true: Callable[[State], bool]) -> None:
        """Waits until it is so of every agent. Fails when one of them ended."""
        async with asyncio.timeout(PATIENCE):
            while not (len(self.states) == len(self.history) and all(map(true, self.states))):
                assert self.alive, [program.lines[-20:] for program in self.programs if not program.running]
                self._news.clear()
                await self._news.wait()

    @property
    def alive(self) -> bool:
        return all(program.running for program in self.programs)

    async def stop(self) -> None:
        await asyncio.gather(*(program.stop() for program in self.programs))


class Manifests:
    """Services in a folder, one more with each `add`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.count = 0

    def add(self) -> None:
        """One file, in place at once."""
        self.count += 1
        high, low = divmod(self.count, 250)
        written = self.folder / ".new"
        written.write_text(
            f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{self.count}}}\n"
            f"spec: {{clusterIP: 10.96.{high}.{low + 1}, ports: [{{port: 80}}]}}\n"
        )
        written.rename(self.folder / f"s{self.count}.yaml")
