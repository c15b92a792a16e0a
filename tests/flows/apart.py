"""Columns side by side, each in a process of its own, and ipvs in the guest where this kernel has none.

A process leaves its results in a file. Called by `python -m tests.flows`, which is also what each process runs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from pathlib import Path

from nodeagent.dataplane.modes import backend
from nodeagent.errors import DataplaneUnavailable
from tests.flows.columns import BY_NAME
from tests.flows.conformance import Result, lacking
from tests.flows.scenario import Scenario
from tools.guest import machine

SIDE_BY_SIDE = 3  # most of a column is waiting for packets that must not come
LIMIT = 3000.0  # seconds for a column in the guest, which is slow
_SLOWEST = (
    "kube-proxy-iptables",
    "kube-proxy-nftables",
    "ipvs",
    "userspace",
    "iptables-legacy",
    "iptables",
    "nftables",
)
Found = dict[tuple[str, str], Result]


def save(found: Found, target: Path) -> None:
    listed = [[name, column, *astuple(result)] for (name, column), result in found.items()]
    target.write_text(json.dumps(listed), "utf-8")


def load(source: Path) -> Found:
    """Raises OSError, ValueError."""
    listed = json.loads(source.read_text("utf-8"))
    return {
        (name, column): Result(verdict, tuple(notes), flows, otherwise)
        for name, column, verdict, notes, flows, otherwise in listed
    }


def results(
    scenarios: Sequence[Scenario], columns: Iterable[str], arguments: Sequence[str], tell: Callable[[str], None]
) -> Found:
    """Every column of these scenarios, which `arguments` choose."""
    order = sorted(columns, key=lambda name: _SLOWEST.index(name) if name in _SLOWEST else len(_SLOWEST))
    with tempfile.TemporaryDirectory(prefix="deltaplane-flows-") as folder, ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        work = _Work(scenarios, arguments, Path(folder), tell)
        try:
            return {key: result for part in pool.map(work.column, order) for key, result in part.items()}
        finally:
            work.stop()


class _Work:
    """The processes, which end with this one."""

    def __init__(
        self, scenarios: Sequence[Scenario], arguments: Sequence[str], folder: Path, tell: Callable[[str], None]
    ) -> None:
        self._scenarios, self._arguments, self._folder, self._tell = scenarios, arguments, folder, tell
        self._children: list[subprocess.Popen[str]] = []
        self._stopped = False

    def column(self, name: str) -> Found:
        """Runs one, and reads what it left."""
        folder = self._folder / name
        folder.mkdir()
        began = time.monotonic()
        inside = name == "ipvs" and _needs_guest()
        if inside and (reason := machine.unavailable()):
            return lacking(self._scenarios, name, reason)
        output = self._run(self._command(name, folder, inside=inside))
        self._tell(f"{name}: {time.monotonic() - began:.0f} s{' in the guest' if inside else ''}")
        try:
            return load(folder / "results.json")
        except (OSError, ValueError):
            return {(scenario.id, name): Result("FAILS", (output[-2000:],)) for scenario in self._scenarios}

    def _command(self, name: str, folder: Path, *, inside: bool) -> list[str]:
        target = (machine.RESULTS if inside else folder) / "results.json"
        run = [sys.executable, "-m", "tests.flows", "--columns", name, "--into", str(target), *self._arguments]
        guest = [sys.executable, "-m", "tools.guest", "--limit", f"{LIMIT:g}", "--results", str(folder), "--"]
        return [*guest, *run] if inside else run

    def _run(self, command: Sequence[str]) -> str:
        """Its output."""
        if self._stopped:
            return "stopped"
        pipe = subprocess.PIPE
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=subprocess.STDOUT, text=True)
        self._children.append(child)
        return child.communicate()[0]

    def stop(self) -> None:
        self._stopped = True
        for child in self._children:
            if child.poll() is None:
                child.terminate()


def _needs_guest() -> bool:
    if machine.inside():
        return False
    try:
        backend(BY_NAME["ipvs"].mode).probe()
    except DataplaneUnavailable:
        return True
    return False
