"""Protocols and address families have one table each, which all rooms use."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deltaplane.model import PROTOCOL_NAMES, PROTOCOL_NUMBERS, WIDTHS, Family, Protocol, family_of, protocol_name

ROOT = Path(__file__).parents[3]
TABLES = re.compile(r"\{\s*6: |\b132\b|: 17\b|= 17\b|\b6, 17\b|4 if \w+ == 4 else 16|4 if len\([\w.]+\) == 4 else 6")
ELSEWHERE = ("deltaplane/model.py", "nodeagent/linux", "nodeagent/stream/servers.py")


def test_a_protocol_has_the_name_that_iptables_and_nft_have_for_it() -> None:
    assert PROTOCOL_NAMES == {6: "tcp", 17: "udp", 132: "sctp"}
    assert {PROTOCOL_NUMBERS[name] for name in PROTOCOL_NAMES.values()} == set(Protocol)


@pytest.mark.parametrize(("number", "name"), [(6, "TCP"), (132, "SCTP"), (47, "47")])
def test_a_protocol_is_shown_by_its_name_else_by_its_number(number: int, name: str) -> None:
    assert protocol_name(number) == name


@pytest.mark.parametrize(("family", "width"), WIDTHS.items())
def test_an_address_tells_its_family_by_its_width(family: int, width: int) -> None:
    assert family_of(bytes(width)) == family == Family(family)


def test_no_room_has_tables_of_its_own() -> None:
    files = (path for room in ("nodeagent", "deltaplane") for path in (ROOT / room).rglob("*.py"))
    own = {str(path.relative_to(ROOT)) for path in files if TABLES.search(path.read_text()) and "_pb2" not in path.name}
    assert {file for file in own if not file.startswith(ELSEWHERE)} == set()
