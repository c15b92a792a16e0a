"""docs/command.md is what the command says of itself."""

from __future__ import annotations

import re
import shlex

import pytest

from deltaplane import cli
from operatorcli.exits import MEANING, Exit
from operatorcli.main import command
from tools import command_page


def test_the_page_has_the_help_as_it_is() -> None:
    text = command_page.PAGE.read_text()

    assert text == command_page.redrawn(text), "run make manual"


LINE = re.compile(rf"^(?:.*&& |kubectl )?deltaplane ((?:{'|'.join(cli.VERBS)})\\b.*?)(?:\\s+#.*)?$", re.MULTILINE)


DOCUMENTS = ["docs/command.md", "docs/operating.md", "docs/migrate.md", "docs/runbook.md", "README.md"]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_line_of_a_document_that_runs_a_verb_has_arguments_that_there_are(document: str) -> None:
    verbs = command().commands
    for line in LINE.findall((command_page.PAGE.parents[1] / document).read_text()):
        name, *words = shlex.split(line)
        verbs[name].make_context(name, words)  # raises for what it does not know


def test_every_exit_code_has_a_meaning() -> None:
    assert set(MEANING) == set(Exit)


def test_the_dispatcher_knows_exactly_the_verbs_that_there_are() -> None:
    assert list(cli.VERBS) == sorted(command().commands, key=list(cli.VERBS).index)


def test_help_fits_into_a_hundred_columns() -> None:
    for name, verb in command().commands.items():
        context = verb.make_context(name, [], resilient_parsing=True, max_content_width=100, terminal_width=100)
        assert max(map(len, verb.get_help(context).splitlines())) <= 100, name
