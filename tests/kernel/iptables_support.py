"""What the iptables kernel tests share: a dataplane in a namespace, in either flavour, and what the tables hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nodeagent.dataplane.iptables.cleanup import cleanup
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.linux.iptables.programs import Flavour
from tools.lab.fabric import CLUSTER_CIDRS
from tools.lab.netns import Namespace
from tools.lab.rules import run

SETTINGS = Settings(CLUSTER_CIDRS)
FLAVOURS = pytest.mark.parametrize("flavour", list(Flavour), ids=lambda flavour: flavour.value)


@contextmanager
def dataplane(space: Namespace, flavour: Flavour, settings: Settings = SETTINGS) -> Iterator[IptablesDataplane]:
    """A started dataplane that works in this namespace."""
    made = IptablesDataplane(settings=settings, flavour=flavour)
    with space.entered():
        made.start()
    try:
        yield made
    finally:
        made.close()


@contextmanager
def cleaned(space: Namespace) -> Iterator[None]:
    """Nothing of ours is in the namespace at first, nor afterwards."""
    clean(space)
    try:
        yield
    finally:
        clean(space)


def clean(space: Namespace) -> tuple[str, ...]:
    with space.entered():
        return cleanup()


def tables(space: Namespace, flavour: Flavour, family: int = 4) -> dict[str, list[str]]:
    """Every table's chains and rules without counters, sorted: what two machines must have in common."""
    program = f"ip{'6' if family == 6 else ''}tables-{flavour.value}-save"
    found: dict[str, list[str]] = {}
    for table in ("filter", "nat", "mangle"):
        text = re.sub(r"\[\d+:\d+\]", "", run(space, program, "-t", table))
        found[table] = sorted(line for line in text.splitlines() if line[:1] in "-:")
    return found
