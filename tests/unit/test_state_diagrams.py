"""The documents' state diagrams are what the programs' tables say."""

from __future__ import annotations

from enum import Enum

import pytest

from tools.state_diagrams import DOCUMENTS, ROOT, draw, redrawn


class Light(Enum):
    RED = "stop"
    GREEN = 2
    OFF = "dark"


class Turn(Enum):
    ON = "on"
    PULSE = "pulse"
    CUT = "cut"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_shows_the_table_as_it_is(name: str) -> None:
    text = (ROOT / name).read_text()

    assert "```mermaid\nstateDiagram-v2" in text
    assert text == redrawn(text), f"{name} shows an old table: run make diagrams"


def test_a_diagram_has_every_state_and_one_arrow_for_each_pair() -> None:
    drawn = draw({
        Light.RED: {Turn.ON: Light.GREEN, Turn.PULSE: Light.GREEN, Turn.CUT: Light.OFF},
        Light.GREEN: {Turn.PULSE: Light.GREEN},
        Light.OFF: {},
    })  # fmt: skip

    assert drawn.splitlines() == [
        "stateDiagram-v2",
        '    state "stop" as RED',
        '    state "green" as GREEN',
        '    state "dark" as OFF',
        "    [*] --> RED",
        "    RED --> GREEN: on, pulse",
        "    RED --> OFF: cut",
        "    GREEN --> GREEN: pulse",
        "    OFF --> [*]",
    ]


def test_a_state_without_a_row_is_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="RED leads to OFF, which has no row"):
        draw({Light.RED: {Turn.CUT: Light.OFF}})


def test_a_text_that_mermaid_would_misread_is_an_error_that_names_it() -> None:
    class Odd(Enum):
        ODD = "a: b"

    with pytest.raises(ValueError, match="a: b"):
        draw({Odd.ODD: {}})


def test_a_table_that_is_not_there_is_an_error_that_names_it() -> None:
    with pytest.raises(LookupError, match=r"controlplane\.stream_phases:NONE"):
        redrawn("<!-- states controlplane.stream_phases:NONE -->\n<!-- end of states -->")


def test_what_is_outside_of_the_markers_stays() -> None:
    text = "before\n<!-- states controlplane.stream_phases:TRANSITIONS -->\noutdated\n<!-- end of states -->\nafter\n"

    drawn = redrawn(text)

    assert drawn.startswith("before\n<!--")
    assert drawn.endswith("<!-- end of states -->\nafter\n")
    assert "outdated" not in drawn
    assert redrawn(drawn) == drawn
