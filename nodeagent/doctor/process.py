"""Processes of this network namespace, from /proc: who runs, who listens, and how kube-proxy was started."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from deltaplane import bounded
from nodeagent.doctor.facts import KubeProxy, Process
from nodeagent.doctor.translation import BadInput

MOST_BYTES = 4 * 1024 * 1024
_LISTEN = "0A"  # TCP_LISTEN of net/tcp_states.h
PROC = Path("/proc")


def here(proc: Path = PROC) -> Iterator[Process]:
    """Those whose network is the caller's. What ends meanwhile, or may not be looked at, is left out."""
    own = _network(proc / "self")
    for path in sorted(proc.glob("[0-9]*"), key=lambda each: int(each.name)):
        try:
            words = (path / "cmdline").read_bytes().decode(errors="replace").rstrip("\0").split("\0")
        except OSError:
            continue
        if words != [""] and _network(path) == own:
            yield Process(int(path.name), tuple(words))


def _network(path: Path) -> str:
    try:
        return str((path / "ns/net").readlink())
    except OSError:
        return ""


def listening(proc: Path = PROC) -> dict[int, str]:
    """TCP ports that somebody listens at: the name of the program, "" where it is not known. Raises OSError."""
    inodes = {inode: port for name in ("tcp", "tcp6") for port, inode in _listeners(proc / "self/net" / name)}
    found = dict.fromkeys(inodes.values(), "")
    for each in here(proc):
        for inode in _sockets(proc / str(each.pid) / "fd") & inodes.keys():
            found[inodes[inode]] = each.program
    return found


def _listeners(path: Path) -> Iterator[tuple[int, str]]:
    """Port and inode, as proc_net(5) has them; no line where the kernel has no IPv6."""
    lines = path.read_text().splitlines()[1:] if path.exists() else []
    for words in map(str.split, lines):
        if words[3] == _LISTEN:
            yield int(words[1].rpartition(":")[2], 16), words[9]


def _sockets(folder: Path) -> set[str]:
    try:
        links = [str(path.readlink()) for path in folder.iterdir()]
    except OSError:
        return set()
    return {link[8:-1] for link in links if link.startswith("socket:[")}


def kube_proxy(proc: Path = PROC) -> KubeProxy | None:
    """The one that runs here, with the text of its --config as its container has it. Raises `BadInput`."""
    found = next((each for each in here(proc) if each.program == "kube-proxy"), None)
    if found is None:
        return None
    origin = f"process {found.pid} (kube-proxy)"
    name = config_name(found.words[1:])
    if not name:
        return KubeProxy(origin, found.words[1:])
    path = proc / str(found.pid) / ("root" if name.startswith("/") else "cwd") / name.lstrip("/")
    return KubeProxy(origin, found.words[1:], text(path, f"{origin}, {name}"), name)


def config_name(arguments: tuple[str, ...]) -> str:
    """The value of --config, as kube-proxy takes it; the last counts."""
    found = ""
    for place, word in enumerate(arguments):
        if word.startswith(("--config=", "-config=")):
            found = word.partition("=")[2]
        elif word in ("--config", "-config") and place + 1 < len(arguments):
            found = arguments[place + 1]
    return found


def text(path: Path, what: str) -> str:
    """A file from outside, with a limit. Raises `BadInput` that begins with `what`."""
    try:
        return bounded.read(path, MOST_BYTES)
    except OSError as error:
        raise BadInput(f"{what}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{what}: it is not UTF-8 text") from error
    except bounded.TooMuch as error:
        raise BadInput(f"{what}: {error}") from error
