"""The iptables programs, which only this package runs; tests have the same in memory.

A restore with many lines is one process. Programs run in the network namespace of the thread that made `Tools`, as a
socket would be in it.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from enum import Enum
from pathlib import Path
from typing import NamedTuple, Protocol

from nodeagent.linux import netns
from nodeagent.linux.errors import KernelUnavailable, RightLacking
from nodeagent.linux.iptables.saved import listing
from nodeagent.linux.netlink.accounting import Accounts

LOCK_WAIT = 5  # seconds for another program's lock; only the legacy flavour has one
_CAP_NET_RAW = 13  # linux/capability.h
_RIGHTS = "the agent needs CAP_NET_ADMIN and CAP_NET_RAW in this network namespace; it is retried"
_TIMEOUT = 120.0  # seconds for one program
_PLACES = "/usr/sbin:/sbin:/usr/local/sbin:/usr/bin:/bin"
_LINE = re.compile(r"(?:at line: |line )(\d+)")
_NO_CHAIN = ("No chain/target/match by that name", "is incompatible, use 'nft' tool", "does not exist")
_COMMANDS = {4: "iptables", 6: "ip6tables"}
_ACTIONS = ("restore", "save")
_LEGACY_TABLES = {4: "ip_tables_names", 6: "ip6_tables_names"}


class Flavour(Enum):
    """Which of the kernel's two rule sets the programs write; each knows nothing of the other's rules."""

    NFT = "nft"
    LEGACY = "legacy"


def legacy_tables(family: int) -> frozenset[str]:
    """The legacy flavour's tables that are there; none where the kernel has it not. To ask a program loads them."""
    try:
        return frozenset(Path("/proc/thread-self/net", _LEGACY_TABLES[family]).read_text().split())
    except OSError:
        return frozenset()


class Refusal(NamedTuple):
    """A restore that was not done as a whole. Tables that were committed before `line` stand."""

    text: str  # the program's complaint, one line
    line: int = 0  # of the input, from 1; 0: not told
    busy: bool = False  # nothing is wrong with the input: another program has the lock, or we lack the right


class Iptables(Protocol):
    """What the dataplane needs of a kernel."""

    flavour: Flavour

    def has(self, family: int) -> bool:
        """Whether this IP version is there."""

    def save(self, family: int, table: str) -> str:
        """The rules of one table, as `iptables-save` writes them. Raises KernelUnavailable."""

    def chain(self, family: int, table: str, name: str) -> list[str] | None:
        """The rules of one chain, as `save` has them; None where it is not there. Raises KernelUnavailable."""

    def restore(self, family: int, text: str) -> Refusal | None:
        """Does what `iptables-restore --noflush` does with this input. Raises KernelUnavailable."""

    def attempt(self, family: int, text: str) -> Refusal | None:
        """As `restore`, with an input that leaves nothing behind: whether it would be taken."""

    def sysctl(self, name: str) -> int | None:
        """A kernel setting of this network namespace, by its path under /proc/sys; None where it is not there."""

    def set_sysctl(self, name: str, value: int) -> str:
        """Makes a setting; the reason where that is not possible."""

    def account(self, name: str) -> bool:
        """Makes one of the kernel's counters, where there is none of that name; whether there is one now."""

    def packets(self, name: str) -> int | None:
        """What one of the kernel's counters has counted; None where it is not there."""

    def close(self) -> None:
        """Lets go of what was opened."""


def find(flavour: Flavour, family: int, action: str) -> str | None:
    """A program's path: `action` is "restore", "save", or "" for the one that takes commands.

    Programs of one flavour only may lack the word for it.
    """
    name, end = _COMMANDS[family], f"-{action}" if action else ""
    found = which(f"{name}-{flavour.value}{end}")
    if found is None and (plain := which(f"{name}{end}")) is not None and _flavour(plain) is flavour:
        return plain
    return found


def plain() -> Flavour | None:
    """The flavour of the programs that have no word for it in their names; None: there are none."""
    program = which("iptables")
    return _flavour(program) if program is not None else None


def which(name: str) -> str | None:
    """The path of a program, on PATH or where such programs are."""
    return shutil.which(name) or shutil.which(name, path=_PLACES)


def _flavour(program: str) -> Flavour | None:
    try:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Flavour.NFT if "nf_tables" in said.stdout else Flavour.LEGACY


def families(flavour: Flavour) -> tuple[int, ...]:
    """The IP versions that this kernel has and these programs know."""
    kernels = (4, 6) if Path("/proc/thread-self/net/if_inet6").exists() else (4,)
    return tuple(family for family in kernels if all(find(flavour, family, action) for action in _ACTIONS))


def may_open_raw_sockets() -> bool:
    """Whether this process has CAP_NET_RAW (capabilities(7), proc_pid_status(5))."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return True  # who knows: the program's own words say what is wrong
    words = next((line.split() for line in lines if line.startswith("CapEff:")), ["CapEff:", "f" * 16])
    return bool(int(words[1], 16) >> _CAP_NET_RAW & 1)


class Around(Protocol):
    """Who is told of each restore."""

    def before(self, process: int) -> None:
        """The restore is this process, which has changed nothing yet."""

    def after(self) -> None:
        """It has ended."""


def run(command: Sequence[str], given: str, around: Around | None = None) -> tuple[int, str, str]:
    """One program, where the calling thread is: its exit code, output and complaint in one line. Raises OSError."""
    pipe = subprocess.PIPE
    with subprocess.Popen(  # noqa: S603
        command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", errors="surrogateescape"
    ) as child:
        if around is not None:
            around.before(child.pid)
        try:
            output, said = child.communicate(given, timeout=_TIMEOUT)
        except subprocess.TimeoutExpired as error:
            child.kill()
            raise TimeoutError(errno.ETIMEDOUT, f"it did not end within {_TIMEOUT:.0f} s") from error
    return child.returncode, output, complaint(said)


class Tools:
    """The real ones, in the network namespace of the calling thread. `around` is told of each restore."""

    def __init__(self, flavour: Flavour, around: Around | None = None) -> None:
        self.flavour = flavour
        self._around = around
        self._home = netns.opened()
        self._families = families(flavour)
        self._programs = {
            (family, action): path
            for family in self._families
            for action in _ACTIONS
            if (path := find(flavour, family, action)) is not None
        }

    def has(self, family: int) -> bool:
        return family in self._families

    def save(self, family: int, table: str) -> str:
        code, text, said = self._run([self._programs[family, "save"], "-t", table], "")
        if code:
            what = f"iptables-{self.flavour.value}: listing {table} of IPv{family} failed ({said})"
            if self.flavour is Flavour.LEGACY and not may_open_raw_sockets():
                raise RightLacking(f"{what}: this process lacks CAP_NET_RAW")
            raise KernelUnavailable(f"{what}: {_RIGHTS}")
        return text

    def chain(self, family: int, table: str, name: str) -> list[str] | None:
        program = find(self.flavour, family, "")
        if program is None:
            return listing(self.save(family, table)).get(name)
        code, text, said = self._run([program, "-w", str(LOCK_WAIT), "-t", table, "-S", name], "")
        if code and any(absent in said for absent in _NO_CHAIN):
            return None
        if code:
            raise KernelUnavailable(f"iptables: listing {name} of IPv{family} failed ({said}): {_RIGHTS}")
        return listing(f"*{table}\n:{name} - [0:0]\n{text}")[name]

    def restore(self, family: int, text: str) -> Refusal | None:
        command = [self._programs[family, "restore"], "--noflush", "-w", str(LOCK_WAIT)]
        code, _, said = self._run(command, text, self._around)
        if self._around is not None:
            self._around.after()
        if code == 0:
            return None
        found = _LINE.search(said)
        line = int(found[1]) if found else 0
        return Refusal(said, line, busy=not line)

    def attempt(self, family: int, text: str) -> Refusal | None:
        return self.restore(family, text)

    def sysctl(self, name: str) -> int | None:
        try:
            with self._there():
                return int(Path("/proc/sys", name).read_text())
        except (OSError, ValueError):
            return None

    def set_sysctl(self, name: str, value: int) -> str:
        try:
            with self._there():
                Path("/proc/sys", name).write_text(f"{value}\n")
        except OSError as error:
            return os.strerror(error.errno or 0)
        return ""

    def account(self, name: str) -> bool:
        try:
            with self._there(), closing(Accounts()) as accounts:
                return accounts.ensure(name)
        except OSError:
            return False

    def packets(self, name: str) -> int | None:
        try:
            with self._there(), closing(Accounts()) as accounts:
                return accounts.packets(name)
        except OSError:
            return None

    def _run(self, command: Sequence[str], given: str, around: Around | None = None) -> tuple[int, str, str]:
        try:
            with self._there():
                return run(command, given, around)
        except OSError as error:
            raise KernelUnavailable(f"iptables: {command[0]} did not run ({error}); it is retried") from error

    def _there(self) -> AbstractContextManager[None]:
        """The thread is where this was made, meanwhile."""
        return netns.inside(self._home)

    def close(self) -> None:
        if self._home >= 0:
            os.close(self._home)
            self._home = -1


def complaint(said: str) -> str:
    """What a program said is wrong, in one line, without its name and its advice."""
    said = said.encode("utf-8", "backslashreplace").decode()
    lines = [line.strip() for line in said.splitlines() if line.strip() and not line.startswith(("Try ", "#"))]
    return re.sub(r"^\S*tables\S* (v\S+ \(\w+\))?:? ?", "", "; ".join(lines)) or "no reason given"
