"""Kernel settings of connection tracking, made at start as kube-proxy makes them (J8), for every mode.

`plan` is pure: configuration and cores in, settings out. `setup` writes what differs and says what it could not;
nothing here ends the agent, since a node that tracks fewer connections still forwards. Called by `nodeagent.app` once
the dataplane has started and for `--init-only` (L8): then another container sets up what the agent's own cannot write.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from deltaplane.logs import event
from nodeagent.config.schema import Conntrack

CEILING = 1 << 20  # tracked connections: on hundreds of cores the scaled limit would eat the memory it guards
_NET = "proc/sys/net/netfilter"
_BUCKETS = f"{_NET}/nf_conntrack_buckets"
_HASHSIZE = "sys/module/nf_conntrack/parameters/hashsize"

log = logging.getLogger(__name__)


class Setting(NamedTuple):
    """One number in one file. `path` is relative to the root; `shown` is where to read it, if that is another file."""

    path: str
    value: int
    at_least: bool = False  # a higher one is as good
    shown: str = ""

    def __str__(self) -> str:
        return f"{Path(self.path).name}={self.value}"


class Failure(NamedTuple):
    """A setting that is not as wanted, and one line for the operator."""

    setting: Setting
    text: str


def conntrack_max(config: Conntrack, cores: int) -> int:
    """How many connections may be tracked; 0: leave it."""
    if config.max_per_core <= 0:
        return 0
    return min(max(config.min, config.max_per_core * cores), CEILING)


def plan(config: Conntrack, cores: int) -> tuple[Setting, ...]:
    """The settings wanted on a machine of so many cores, in the order they are made. Times are cut to whole seconds."""
    return tuple(_plan(config, cores))


def _plan(config: Conntrack, cores: int) -> Iterator[Setting]:
    most = conntrack_max(config, cores)
    if most:
        yield Setting(f"{_NET}/nf_conntrack_max", most)
        yield Setting(_HASHSIZE, most // 4, at_least=True, shown=_BUCKETS)
    for name, value in (
        ("nf_conntrack_tcp_timeout_established", int(config.tcp_established_timeout.seconds)),
        ("nf_conntrack_tcp_timeout_close_wait", int(config.tcp_close_wait_timeout.seconds)),
        ("nf_conntrack_tcp_be_liberal", int(config.tcp_be_liberal)),
        ("nf_conntrack_udp_timeout", int(config.udp_timeout.seconds)),
        ("nf_conntrack_udp_timeout_stream", int(config.udp_stream_timeout.seconds)),
    ):
        if value > 0:
            yield Setting(f"{_NET}/{name}", value)


def setup(config: Conntrack, *, cores: int | None = None, root: Path = Path("/")) -> list[Failure]:
    """Makes the settings under `root`, logs each change and each failure, and returns the failures. Never raises."""
    return make(plan(config, cores or os.cpu_count() or 1), root)


def make(settings: Iterable[Setting], root: Path = Path("/")) -> list[Failure]:
    """Makes these settings as `setup` does; a mode's own ones too."""
    failures = []
    for setting in settings:
        failure = _make(setting, root)
        if failure is not None:
            failures.append(Failure(setting, failure))
            event(log, logging.WARNING, "kernel setting not made", setting=setting, reason=failure)
    return failures


def _make(setting: Setting, root: Path) -> str | None:
    """Writes one setting if it differs; the reason if that is not possible."""
    try:
        found = _read(root, (setting.shown, setting.path))
        if found == setting.value or (setting.at_least and found > setting.value):
            return None
        _write(setting, root)
    except (OSError, ValueError) as error:
        return _reason(root / setting.path, error)
    event(log, logging.INFO, "kernel setting made", setting=setting, before=found)
    return None


def _write(setting: Setting, root: Path) -> None:
    """Where only /proc/sys can be written, the file that shows it takes it too (nf_conntrack_buckets, Linux 4.8)."""
    try:
        (root / setting.path).write_text(f"{setting.value}\n")
    except OSError:
        if not setting.shown:
            raise
        (root / setting.shown).write_text(f"{setting.value}\n")


def _read(root: Path, paths: Iterable[str]) -> int:
    """The number in the first of these files that is there."""
    *first, last = [root / path for path in paths if path]
    for path in first:
        if path.exists():
            return int(path.read_text())
    return int(last.read_text())


def _reason(path: Path, error: OSError | ValueError) -> str:
    if isinstance(error, FileNotFoundError):
        return f"{path} does not exist: load the module nf_conntrack"
    if isinstance(error, OSError):
        why = os.strerror(error.errno or 0)
        return (
            f"{path} cannot be written ({why}): run --init-only with privileges in the host's network, or set it to 0"
        )
    return f"{path} holds no number"
