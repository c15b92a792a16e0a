"""What the measurement ran on, and what processes cost, as /proc says it. Times in seconds, memory in KiB."""

from __future__ import annotations

import os
import platform
import resource
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")


def rss(pid: int | str = "self") -> int:
    """Resident memory now."""
    return _status(pid, "VmRSS")


def rss_peak(pid: int | str = "self") -> int:
    """The most it ever had."""
    return _status(pid, "VmHWM")


def _status(pid: int | str, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise LookupError(f"/proc/{pid}/status has no {name}")


def cpu(pid: int) -> float:
    """User and system seconds of a process (/proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def cpu_of_all(pid: int) -> float:
    """The same, with the programs that it started: those that it has waited for, and those that run now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    spent = sum(map(int, fields[11:15])) / TICK
    for child in _children(pid):
        with suppress(OSError):  # it has ended meanwhile
            spent += cpu_of_all(child)
    return spent


def children(pid: int) -> bool:
    """Whether a program that it started runs now."""
    return bool(_children(pid))


def _children(pid: int) -> list[int]:
    files = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in files for child in file.read_text().split()]


def own_cpu() -> float:
    """CPU seconds of this process and of its children that have ended."""
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


class Others:
    """How busy the machine's processors were meanwhile."""

    def __init__(self) -> None:
        self._since = self._now()

    def share(self, own: float = 0.0) -> float:
        """0 to 1, of all processors, less `own` CPU seconds of those who measure."""
        busy, total = self._now()
        return (busy - self._since[0] - own * TICK) / max(1, total - self._since[1])

    @staticmethod
    def _now() -> tuple[int, int]:
        with Path("/proc/stat").open() as file:
            ticks = [int(field) for field in file.readline().split()[1:9]]
        return sum(ticks) - ticks[3] - ticks[4], sum(ticks)


def quiet(limit: float = 0.15, patience: float = 10.0) -> None:
    """Waits, but not for ever, until others leave the machine alone for a second."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        watch = Others()
        time.sleep(1.0)
        if watch.share() <= limit:
            return


def description() -> str:
    """One line: when, and on what."""
    cores = len(os.sched_getaffinity(0))
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), ""
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC; {cores} processors"
        f"{f' ({model})' if model else ''}, Linux {platform.release()} {platform.machine()}, "
        f"{platform.python_implementation()} {platform.python_version()}; load average {os.getloadavg()[0]:.2f}"
    )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
