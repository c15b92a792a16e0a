"""`options`."""

from __future__ import annotations

import typer

from operatorcli.exits import MEANING, Exit
from operatorcli.flags import CONNECTION, ENVIRONMENT, Asked, meaning, verb
from operatorcli.output import Answer
from operatorcli.tables import Cell, Sentence, Table, columns

OPTIONS = columns("OPTION", "ENVIRONMENT", "MEANING*")
CODES = columns("CODE>", "MEANING*")


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(app, "options", "options", only=())
    def options(asked: Asked) -> Exit:
        """The options that all verbs have: how a replica is reached, and who you are; and the exit codes.

        Each can be given in the environment, too. Options may stand before the verb or after it.
        """
        rows = [
            (Cell(meaning(each)[0], "strong"), f"{ENVIRONMENT}{each.name.upper()}", meaning(each)[1])
            for each in CONNECTION
        ]
        codes = [(str(int(code)), text) for code, text in MEANING.items()]
        data = [{"option": name.text, "environment": variable, "meaning": text} for name, variable, text in rows]
        asked.show(
            Answer([Table(OPTIONS, rows), Sentence(""), Table(CODES, codes)], data, [each["option"] for each in data])
        )
        return Exit.YES
