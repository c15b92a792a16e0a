"""Kinds of iptables rules that the redirects need: one of each is tried before that way is taken."""

from __future__ import annotations

from itertools import product

import pytest

from deltaplane.model import Protocol
from nodeagent.dataplane.frontend_key import packed as key
from nodeagent.dataplane.set_members import ANYWHERE_MEMBER, NODE_PORT_MEMBER
from nodeagent.dataplane.userspace import lines
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.probe import kinds
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.linux.iptables.saved import Line
from nodeagent.linux.iptables.trial import Rule
from nodeagent.linux.iptables.trial import kinds as kinds_of

ADDRESSES = {4: bytes((10, 0, 0, 1)), 6: bytes(15) + b"\x02"}
REFUSES = "REJECT"  # a kernel without it serves every Service that has endpoints


def written(family: int) -> set[Rule]:
    """The kinds of all rules that bring traffic to listeners, or drop it."""
    settings = (Settings(("10.0.0.0/8", "fd00::/8")), Settings(interface="cni0"))
    found = [
        Line(*where, rule)
        for each in settings
        for where, rules in lines.constant(family, each).items()
        for rule in rules
    ]
    found += lines.jumps(settings[0])
    address = ADDRESSES[family]
    for protocol, place in product((Protocol.TCP, Protocol.UDP), (address, b"")):
        maps = (t.REDIRECTS, t.REFUSALS_OUTSIDE) if place else (t.NODE_PORTS, t.NODE_REFUSALS_OUTSIDE)
        frontend = key(family, place, protocol, 80)
        found += lines.lines(frontend, ((maps[0], address + bytes(4)), (maps[1], "drop")))
    for member in (bytes((NODE_PORT_MEMBER,)) + address, bytes((ANYWHERE_MEMBER, Protocol.TCP))):
        found += lines.lines(bytes((family,)) + member, t.STANDS)
    return {kind for line in found for kind in kinds_of(line.table, line.rule) if kind[1] != REFUSES}


@pytest.mark.parametrize("family", [4, 6])
def test_each_kind_of_rule_that_a_redirect_needs_is_tried_first_and_no_other(family: int) -> None:
    assert {kind for rule in kinds(family) for kind in kinds_of(*rule)} == written(family)
