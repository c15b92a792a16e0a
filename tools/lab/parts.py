"""Where real programs are: kube-apiserver, kubectl, kube-proxy, grpcurl, Jaeger (tools/real-parts), the machine's own.

Called by the modules that start them. `make` builds what the chosen tests need before they run (tests/needs.py); what
is not there is `PartMissing`, whose text is a skip reason.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

from tools import programs

SCRIPT = Path(__file__).parents[1] / "real-parts"


class PartMissing(RuntimeError):
    """The program is not there and cannot be made here: says which and why."""


@cache
def folder() -> Path:
    """The folder of built programs; it may not exist yet."""
    return Path(subprocess.run([SCRIPT, "--where"], check=True, capture_output=True, text=True).stdout.strip())


def find(name: str) -> Path:
    """The program. Raises `PartMissing`: building takes minutes, which is for `make`, not for the middle of a test."""
    path = folder() / name
    if not path.exists():
        raise PartMissing(_why(name))
    return path


def _why(name: str) -> str:
    failed = folder() / f"{name}.failed"
    lines = failed.read_text().strip().splitlines() if failed.exists() else []
    if not lines:
        return f"{name} is not built: run tools/real-parts {name}"
    return f"{name} cannot be built here: {lines[-1]}"


def installed(name: str) -> Path:
    """A program of the machine, of tools/programs.txt. Raises `PartMissing` naming the Debian package that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise PartMissing(f"{name} is not installed here (Debian: apt-get install {programs.listed()[name].package})")
    return Path(found)
