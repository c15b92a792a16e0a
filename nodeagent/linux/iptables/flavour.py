"""Which flavour of iptables this machine uses, told as the distribution's wrapper scripts tell it.

The kubelet leaves a hint in the mangle table of the flavour it uses; without one, the flavour that has more rules is
in use; without any, the newer one, unless this kernel has not what it needs.
"""

from __future__ import annotations

import subprocess
import sys
from typing import NamedTuple

from nodeagent.linux.errors import DataplaneUnavailable
from nodeagent.linux.iptables.programs import Flavour, find, legacy_tables
from nodeagent.linux.iptables.saved import MANGLE, TABLES, lines
from nodeagent.linux.nft import tables

HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
_TIMEOUT = 20.0  # seconds for one listing


class Traces(NamedTuple):
    """What one flavour's tables have, both families together."""

    hinted: bool = False  # by the kubelet
    rules: int = 0
    works: bool = True  # on this kernel


def choose(found: dict[Flavour, Traces]) -> Flavour | None:
    """Of the flavours that are installed; None: none is."""
    for flavour in (Flavour.NFT, Flavour.LEGACY):
        if flavour in found and found[flavour].hinted:
            return flavour
    return max(found, key=lambda each: (found[each].works, found[each].rules, each is Flavour.NFT), default=None)


def detect() -> Flavour:
    """Of this machine. Raises DataplaneUnavailable where there is no iptables."""
    found = {each: Traces(_hinted(each), works=_works(each)) for each in Flavour if find(each, 4, "restore")}
    if len(found) > 1 and not any(traces.hinted for traces in found.values()) and _rules(Flavour.LEGACY):
        # Only now: listing the rules of a large cluster takes seconds.
        found = {each: traces._replace(rules=_rules(each)) for each, traces in found.items()}
    chosen = choose(found)
    if chosen is None:
        raise DataplaneUnavailable(
            "iptables: iptables-restore is not installed: install iptables or choose another mode"
        )
    return chosen


def _works(flavour: Flavour) -> bool:
    return flavour is Flavour.LEGACY or tables.are_supported()


def _hinted(flavour: Flavour) -> bool:
    try:
        found = [line for family in (4, 6) for line in _listing(flavour, family, MANGLE)]
    except subprocess.TimeoutExpired:
        return False
    return any(line.startswith(":") and line[1:].split(" ", 1)[0] in HINTS for line in found)


def _rules(flavour: Flavour) -> int:
    """How many there are; as many as can be where listing them takes too long."""
    try:
        return sum(
            line.startswith("-A ") for family in (4, 6) for table in TABLES for line in _listing(flavour, family, table)
        )
    except subprocess.TimeoutExpired:
        return sys.maxsize


def _listing(flavour: Flavour, family: int, table: str) -> list[str]:
    """One table; nothing where the program fails, as where the kernel has not this flavour. Raises TimeoutExpired."""
    program = find(flavour, family, "save")
    if program is None or (flavour is Flavour.LEGACY and table not in legacy_tables(family)):
        return []  # asking for a legacy table would load it
    command = [program, "-t", table]
    try:
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=_TIMEOUT, check=False, encoding="utf-8", errors="surrogateescape"
        )
    except OSError:
        return []
    return list(lines(done.stdout))
