"""docs/command.md, whose verbs, common flags and exit codes are the command's own help: `python -m tools.command_page`.

What is between `<!-- NAME -->` and `<!-- end of NAME -->` is written anew; the rest is written by hand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from operatorcli.exits import MEANING
from operatorcli.flags import NAMES
from operatorcli.main import command

PAGE = Path(__file__).parents[1] / "docs" / "command.md"
_BLOCK = re.compile(r"(<!-- (?P<name>[a-z ]+) -->\n).*?(<!-- end of (?P=name) -->)", re.DOTALL)


def redrawn(text: str) -> str:
    """The page with its blocks as they are now. Raises KeyError for a block that nobody writes."""
    written = {"verbs": verbs, "connection": connection, "exit codes": exit_codes}

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n{written[found['name']]()}\n{found[3]}"

    return _BLOCK.sub(block, text)


def verbs() -> str:
    """A section each: usage, what it does, its own arguments and options, examples."""
    return "\n".join(_verb(name, verb) for name, verb in command().commands.items())


def _verb(name: str, verb: Any) -> str:
    context = verb.make_context(name, [], resilient_parsing=True)
    usage = " ".join(verb.collect_usage_pieces(context))
    own = [
        param
        for param in verb.get_params(context)
        if param.name not in (*NAMES, "help") and not getattr(param, "hidden", False)
    ]
    rows = "\n".join(_param(param, context) for param in own)
    examples = "\n".join(examples_of(verb))
    return (
        f"### `deltaplane {name}`\n\n{_text(verb.help)}\n\n```\ndeltaplane {name} {usage}\n```\n\n"
        f"| argument or flag | meaning |\n|---|---|\n{rows}\n\n```sh\n{examples}\n```\n"
    )


def _text(help_text: str) -> str:
    return re.sub(r"(?<!\n)\n(?!\n)", " ", help_text)


def _param(param: Any, context: Any) -> str:
    names, meaning = param.get_help_record(context)
    return _row(param.metavar if param.param_type_name == "argument" else names, meaning)


def _row(names: str, meaning: str) -> str:
    first, second = (" ".join(text.split()).replace("|", "\\|") for text in (names, meaning))
    return f"| `{first}` | {second} |"


def connection() -> str:
    """The flags that every verb has."""
    verb: Any = command().commands["status"]
    context = verb.make_context("status", [], resilient_parsing=True)
    params = [param for param in verb.get_params(context) if param.name in NAMES]
    rows = "\n".join(_row(*param.get_help_record(context)) for param in params)
    return f"| flag | meaning |\n|---|---|\n{rows}\n"


def exit_codes() -> str:
    """What scripts may rely on."""
    rows = "\n".join(f"| {int(code)} | {text} |" for code, text in MEANING.items())
    return f"| code | meaning |\n|---|---|\n{rows}\n"


def examples() -> Iterator[str]:
    """Every line of an example, without the program's name."""
    for verb in command().commands.values():
        yield from (line.removeprefix("deltaplane ") for line in examples_of(verb))


def examples_of(verb: Any) -> list[str]:
    """The lines of its help that are to be typed."""
    lines = [line.strip() for line in verb.epilog.splitlines()]
    return [line for line in lines if line.startswith("deltaplane ")]


if __name__ == "__main__":
    PAGE.write_text(redrawn(PAGE.read_text()))
