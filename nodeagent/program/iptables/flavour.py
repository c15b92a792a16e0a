"""Which flavour of iptables this machine uses, told as the distribution's wrapper scripts tell it.

The kubelet leaves a hint in the mangle table of the flavour it uses; without one, the flavour that has more rules is
in use; without any, the newer one, unless this kernel has not what it needs.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import NamedTuple

from nodeagent.errors import DataplaneUnavailable
from nodeagent.program.iptables.tools import Flavour, find
from nodeagent.program.nftables.probe import has_tables

HINTS = ("KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY")
_TIMEOUT = 30.0  # seconds for one listing
_LOADED = {4: "ip_tables_names", 6: "ip6_tables_names"}


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
    chosen = choose({flavour: _traces(flavour) for flavour in Flavour if find(flavour, 4, "restore")})
    if chosen is None:
        raise DataplaneUnavailable(
            "iptables: iptables-restore is not installed: install iptables or choose another mode"
        )
    return chosen


def _traces(flavour: Flavour) -> Traces:
    hinted, rules = False, 0
    for family in (4, 6):
        if flavour is Flavour.NFT or _loaded(family):  # asking for a legacy table would load it
            for line in _listing(flavour, family):
                hinted |= line.startswith(":") and line[1:].split(" ", 1)[0] in HINTS
                rules += line.startswith("-A ")
    return Traces(hinted, rules, flavour is Flavour.LEGACY or has_tables())


def _loaded(family: int) -> bool:
    try:
        return bool(Path("/proc/thread-self/net", _LOADED[family]).read_text().split())
    except OSError:
        return False


def _listing(flavour: Flavour, family: int) -> list[str]:
    """Every table there is; nothing where the program fails, as where the kernel has not this flavour."""
    program = find(flavour, family, "save")
    if program is None:
        return []
    try:
        done = subprocess.run([program], capture_output=True, text=True, timeout=_TIMEOUT, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines()
