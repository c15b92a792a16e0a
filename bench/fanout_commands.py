"""Commands between `fanout` and its processes: one line of JSON each way, on the pipes of the process."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import IO, Any

Command = Callable[..., Awaitable[dict[str, Any]]]


async def obey(commands: Mapping[str, Command]) -> None:
    """Carries out commands from standard input, one after the other, until it ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    print("{}", flush=True)
    while line := await reader.readline():
        asked = json.loads(line)
        answer = await commands[asked.pop("do")](**asked)
        print(json.dumps(answer), flush=True)


class Child:
    """A process that obeys. `tell` sends a command, `answer` waits for what it gave; `ask` does both.

    `folder`: where its code is; empty: here.
    """

    def __init__(
        self, module: str, *arguments: object, stderr: int | IO[bytes] | None = None, folder: str = ""
    ) -> None:
        command = [sys.executable, "-m", module, *map(str, arguments)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=stderr, cwd=folder or None)
        self._module = module
        self.answer()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def tell(self, do: str, **what: Any) -> None:
        """Sends a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """The next answer. Raises RuntimeError when the process has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._module} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, do: str, **what: Any) -> dict[str, Any]:
        """A command and its answer."""
        self.tell(do, **what)
        return self.answer()

    def end(self) -> None:
        """Kills it."""
        self._process.kill()
        with self._process:  # closes its pipes and waits
            pass
