"""Forms of an answer, and colour where a terminal is."""

from __future__ import annotations

import io
import json

import pytest
import yaml

from operatorcli.output import Answer, Form, show, written
from operatorcli.tables import Cell, Sentence, Table, columns
from tests.unit.operatorcli.long import LABEL, widest

ANSWER = Answer(
    [Table(columns("NAME*", "STATE", "MORE+"), [("node-a", Cell("live", "good"), "x")]), Sentence("All well.", "good")],
    {"nodes": [{"node_name": "node-ä", "rev": "9007199254740993"}]}, ["node/node-a"],
)  # fmt: skip
TEXT = "NAME    STATE\nnode-a  live\nAll well.\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")


def shown(out: io.StringIO, form: Form = Form.TABLE, answer: Answer = ANSWER) -> str:
    show(answer, form, out)
    return out.getvalue()


def test_colour_is_for_terminals_only() -> None:
    assert "\x1b[" in shown(Terminal())
    assert shown(io.StringIO()) == TEXT


def test_who_wants_no_colour_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    text = shown(Terminal())

    assert "\x1b[32m" not in text


@pytest.mark.parametrize("form", [Form.JSON, Form.YAML, Form.NAME])
def test_what_programs_read_has_no_colour_on_a_terminal_either(form: Form) -> None:
    assert "\x1b" not in shown(Terminal(), form)


def test_a_table_is_no_wider_than_a_hundred_columns_on_a_wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    long = Answer([Table(columns("NAME*", "TEXT*"), [(LABEL, LABEL * 3)]), Sentence(f"{LABEL} " * 4)], {})
    plain = io.StringIO()
    show(long, Form.TABLE, plain)

    assert widest(plain.getvalue()) <= 100


def test_every_form_has_the_data_as_it_is() -> None:
    assert json.loads(written(ANSWER, Form.JSON)) == ANSWER.data
    assert yaml.safe_load(written(ANSWER, Form.YAML)) == ANSWER.data
    assert written(ANSWER, Form.NAME) == "node/node-a\n"
    assert written(ANSWER, Form.WIDE) == "NAME    STATE  MORE\nnode-a  live   x\nAll well.\n"
