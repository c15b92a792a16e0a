"""The system's programs that this repository starts (tools/programs.txt): which package has one, and when it is needed.

`guarded` makes the Python code of this repository refuse to start another one: what only this machine happens to have
is then noticed here, and not on the next machine. Called by `tools.lab.parts`, `tools.guest.machine` and the tests.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path, PurePath
from types import FrameType

REPOSITORY = Path(__file__).parents[1]
LIST = Path(__file__).with_name("programs.txt")
SYSTEM = ("/bin", "/sbin", "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin")
_PYTHON = "python"


class Unlisted(RuntimeError):
    """A program of the system that tools/programs.txt does not have: says which."""


@dataclass(frozen=True)
class Program:
    """`when` is "always", "guest", "cold", "cluster", "image", "browser" or "debian", as the list explains."""

    name: str
    package: str
    when: str


@cache
def listed() -> dict[str, Program]:
    """All of them, by name."""
    lines = [line.split() for line in LIST.read_text().splitlines() if line and not line.startswith("#")]
    return {name: Program(name, package, when) for package, when, *names in lines for name in names}


def refused(command: object) -> str:
    """The name of an unlisted program of the system; "" for the rest: what is built, Python, a test's own file."""
    path = PurePath(str(command))
    own = "/" in str(command) and str(path.parent) not in SYSTEM
    return "" if own or path.name in listed() or path.name.startswith(_PYTHON) else path.name


def guarded() -> None:
    """From here on code of this repository that starts an unlisted program gets `Unlisted`, until the process ends."""
    sys.addaudithook(_heard)


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    if event != "subprocess.Popen":
        return
    command = peeled(arguments[1])
    name = refused(command[0]) if command else ""
    if name and _ours(sys._getframe()):  # noqa: SLF001 - the documented way to learn who called
        raise Unlisted(f"{name} is not in tools/programs.txt: a new machine does not have it")


def peeled(command: object) -> list[object]:
    """What `setpriv ... -- command` becomes; any other command as it is."""
    words = list(command) if isinstance(command, list | tuple) else [command]
    while words[:1] == ["setpriv"] and "--" in words:
        words = words[words.index("--") + 1 :]
    return words


def _ours(frame: FrameType | None) -> bool:
    """Whether the nearest caller outside of the standard library is of this repository."""
    library = str(Path(sys.modules["os"].__file__ or "").parent)
    while frame is not None:
        name = frame.f_code.co_filename
        if name != __file__ and not (name.startswith(library) and "site-packages" not in name):
            return Path(name).is_relative_to(REPOSITORY) and "site-packages" not in name
        frame = frame.f_back
    return False
