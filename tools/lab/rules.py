"""What nodes hold in their kernel, as `nft` and `conntrack` show it; and a clean slate between tests."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable

from tools.lab.netns import Namespace


def run(space: Namespace, *command: str, check: bool = True, stdin: str | None = None) -> str:
    """Runs a program in the namespace and returns its output; raises RuntimeError with what it complained about."""
    with space.entered():
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=120, check=False)
    if check and done.returncode != 0:
        raise RuntimeError(f"{space.name}: {' '.join(command)}: exit {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def nft(space: Namespace, *arguments: str) -> str:
    return run(space, "nft", *arguments)


def table(space: Namespace, family: str = "ip", name: str = "deltaplane") -> str:
    """The listing of one table, "" where it does not exist."""
    return run(space, "nft", "list", "table", family, name, check=False)


def delete_tables(spaces: Iterable[Namespace]) -> None:
    for space in spaces:
        nft(space, "flush", "ruleset")
        run(space, "conntrack", "-F", check=False)
