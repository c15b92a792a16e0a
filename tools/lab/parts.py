"""Where real programs are: kube-apiserver, kubectl, kube-proxy, grpcurl, Jaeger (tools/real-parts), the machine's own.

Called by the modules that start them. A part is built at first use; what cannot be built is `PartMissing`, whose text
is a skip reason.
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
    """The program, built now if it has to be (minutes). Raises `PartMissing`."""
    path = folder() / name
    if not path.exists():
        built = subprocess.run([SCRIPT, name], check=False, capture_output=True, text=True)
        if built.returncode != 0 or not path.exists():
            reason = (built.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise PartMissing(f"{name} cannot be built here: {reason}")
    return path


def installed(name: str) -> Path:
    """A program of the machine, of tools/programs.txt. Raises `PartMissing` naming the Debian package that has it."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        raise PartMissing(f"{name} is not installed here (Debian: apt-get install {programs.listed()[name].package})")
    return Path(found)
