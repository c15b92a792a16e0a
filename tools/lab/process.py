"""Programs started inside a namespace: with a log file, ended as a group, and never outliving this process.

Called by the modules that know a program (`deltaplane`, `apiserver`, `kubeproxy`, `jaeger`). All children are started
by one thread that lives as long as the interpreter, because the kernel's parent-death signal means the parent
*thread*.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from tools.lab.netns import Namespace

_launcher = ThreadPoolExecutor(1, "launcher")
AS_INSTALLED = {"PYTHONDONTWRITEBYTECODE": ""}
"""Programs in Python keep their bytecode, whatever holds for who starts them: in the image they have it, too, and
without it the agent takes half as long again to start."""


class ProcessFailed(RuntimeError):
    """A program ended, or did not get ready: says which, how, and ends with the tail of its log."""


class Process:
    """A running program. `log` receives both of its outputs, appended over restarts of the same name."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        space: Namespace | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self._from = log.stat().st_size if log.exists() else 0
        log.parent.mkdir(parents=True, exist_ok=True)
        # Debian's util-linux has setpriv: the child asks for the signal itself, without code between fork and exec.
        self._argv = ["setpriv", "--pdeathsig", "KILL", "--", *self.command]
        self._env = {**os.environ, **AS_INSTALLED, **(env or {})}
        with log.open("ab") as output:
            self._child = _launcher.submit(self._launch, output.fileno(), space).result()

    def _launch(self, output: int, space: Namespace | None) -> subprocess.Popen[bytes]:
        with space.entered() if space else contextlib.nullcontext():
            nothing = subprocess.DEVNULL
            return subprocess.Popen(
                self._argv, stdin=nothing, stdout=output, stderr=output, env=self._env, start_new_session=True
            )

    @property
    def pid(self) -> int:
        """The program's own: setpriv has become it."""
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._child.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Negative: the signal that ended it. None: it runs."""
        return self._child.poll()

    def output(self) -> str:
        """What this run of the program has logged."""
        with self.log.open("rb") as file:
            file.seek(self._from)
            return file.read().decode(errors="replace")

    def tail(self, lines: int = 15) -> str:
        """The last lines of its log, for a failure message."""
        return "\n".join(self.output().splitlines()[-lines:])

    def wait_until(self, ready: Callable[[], object], timeout: float = 30.0, what: str = "ready") -> None:
        """Raises `ProcessFailed` when it ends meanwhile or is not ready in time. OSError from `ready` means not yet."""
        deadline = time.monotonic() + timeout
        while not self._is(ready):
            if not self.running:
                raise ProcessFailed(f"{self.name} ended with {self.exit_code} before {what}:\n{self.tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name}: not {what} within {timeout:g} s:\n{self.tail()}")
            time.sleep(0.02)

    @staticmethod
    def _is(ready: Callable[[], object]) -> bool:
        try:
            return bool(ready())
        except OSError:
            return False

    def wait_log(self, pattern: str, timeout: float = 30.0, after: int = 0) -> None:
        """Waits for a line of this run's log; `after`: so many characters of its output were there before."""
        self.wait_until(lambda: re.search(pattern, self.output()[after:]), timeout, f"logging {pattern!r}")

    def wait_end(self, timeout: float = 30.0) -> int:
        """Waits for it to end by itself; returns the exit code."""
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired as late:
            raise ProcessFailed(f"{self.name} still runs after {timeout:g} s:\n{self.tail()}") from late

    def signal(self, number: signal.Signals) -> None:
        """To the whole group; nothing where it has ended."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def stop(self, timeout: float = 10.0) -> int:
        """Asks it to end (SIGTERM), kills it when it does not. Returns the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self._child.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def kill(self) -> int:
        """SIGKILL, as a crash is."""
        self.signal(signal.SIGKILL)
        return self._child.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
