"""A port that a test was given stays its own, also while nobody listens there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tools.lab.ports import free_port

ANOTHER = """
from tools.lab import ports
ports._RANGE = [{taken}] * 10_000 + list(ports._RANGE)[:500]
print(ports.free_port())
"""


def test_no_port_is_given_twice_and_none_is_one_that_the_kernel_gives_away() -> None:
    given = [free_port() for _ in range(50)]
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])

    assert len(set(given)) == len(given)
    assert max(given) < lowest


def test_another_process_gets_another_one() -> None:
    taken = free_port()
    command = [sys.executable, "-c", ANOTHER.format(taken=taken)]
    other = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert other != taken
