"""Boots the guest, runs one job in it and brings its exit code and output back. Root is not needed on the host.

The host's file system is the guest's root; what the job writes there is gone with it, except under /run/out, which is
the results folder of the host. The guest cannot outlive its limits: it powers itself off, and is killed besides.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from tools import programs

INIT = Path(__file__).with_name("init")
KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
RESULTS = Path("/run/out")  # the results folder, seen from inside
BOOT_LIMIT = 60.0  # seconds
GRACE = 15.0  # seconds that the guest has for ending by itself before it is killed
MEMORY = "3G"
_NEEDED = (KERNEL, "busybox", "insmod", "ipvsadm", "ipset")


class GuestFailed(Exception):
    """The guest did not boot, or its job did not end in time; the text says which and shows the console."""


def inside() -> bool:
    """Whether this process runs in the guest."""
    return "deltaplane.out=" in Path("/proc/cmdline").read_text("ascii", "replace")


def unavailable() -> str:
    """Why no guest can be booted here; empty where one can."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [programs.listed()[name].package for name in _NEEDED if shutil.which(name, path=path) is None]
    if missing or not MODULES.exists():
        return f"the User-mode Linux guest needs the packages {', '.join(missing or ['user-mode-linux'])}"
    return ""


def run(
    command: Sequence[str],
    results: Path,
    *,
    limit: float,
    environment: Mapping[str, str] | None = None,
    folder: Path | None = None,
    said: Callable[[str], object] | None = None,
) -> int:
    """The job's exit code. `said` is given its output as it comes; it stays in `results` as "log".

    `limit`: seconds for the job; `folder`: where it starts (default: here). Raises GuestFailed.
    """
    _prepare(results, command, environment or {}, folder or Path.cwd())
    with _booted(results, limit) as guest:
        _wait(guest, results / "booted", BOOT_LIMIT, "did not boot")
        for text in _follow(guest, results, limit + GRACE):
            if said is not None:
                said(text)
    code = results / "code"
    if not code.exists():
        raise GuestFailed(f"the guest's job did not end within {limit:g} s: {_console(results)}")
    return int(code.read_text())


def _prepare(results: Path, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
    results.mkdir(parents=True, exist_ok=True)
    for stale in ("booted", "code", "log", "console"):
        (results / stale).unlink(missing_ok=True)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
    job = results / "job"
    job.write_text(f"#!/bin/sh\ncd {shlex.quote(str(folder))} || exit 1\n{exports}exec {shlex.join(command)}\n")
    job.chmod(job.stat().st_mode | stat.S_IXUSR)


@contextlib.contextmanager
def _booted(results: Path, limit: float) -> Iterator[subprocess.Popen[bytes]]:
    arguments = [
        KERNEL, f"mem={MEMORY}", "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", f"init={INIT}",
        "con=null", "con0=null,fd:1", "quiet", f"deltaplane.out={results.resolve()}", f"deltaplane.limit={limit:.0f}",
    ]  # fmt: skip
    environment = {"TMPDIR": "/dev/shm", "HOME": str(results), "PATH": f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}
    with (results / "kernel").open("wb") as kernel:
        guest = subprocess.Popen(
            arguments, stdin=subprocess.DEVNULL, stdout=kernel, stderr=kernel, env=environment, start_new_session=True
        )
    try:
        yield guest
    finally:
        _kill(guest)


def _kill(guest: subprocess.Popen[bytes]) -> None:
    """The kernel and its threads: they make a process group of their own, which outlives their parent."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(guest.pid)
        if group != os.getpgid(0):
            os.killpg(group, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        guest.kill()
    guest.wait()


def _wait(guest: subprocess.Popen[bytes], file: Path, limit: float, failure: str) -> None:
    deadline = time.monotonic() + limit
    while not file.exists():
        if guest.poll() is not None or time.monotonic() > deadline:
            raise GuestFailed(f"the guest {failure}: {_console(file.parent)}")
        time.sleep(0.05)


def _follow(guest: subprocess.Popen[bytes], results: Path, limit: float) -> Iterator[str]:
    """The job's output as it comes, until the guest has ended or its time is over."""
    deadline = time.monotonic() + limit
    place, over = 0, False
    while not over:
        over = guest.poll() is not None or time.monotonic() > deadline
        text = _since(results / "log", place)
        if text:
            place += len(text)
            yield text.decode(errors="replace")
        elif not over:
            time.sleep(0.1)


def _since(path: Path, place: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(place)
            return file.read()
    except FileNotFoundError:
        return b""


def _console(results: Path) -> str:
    texts = [_since(results / name, 0).decode(errors="replace").strip() for name in ("console", "kernel")]
    return " / ".join(text[-600:] for text in texts if text) or "it said nothing"
