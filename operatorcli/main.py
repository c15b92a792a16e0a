"""The program: its verbs, and how failures become one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import NoReturn, cast

import typer
from typer.core import TyperGroup
from typer.main import get_command

from deltaplane.cli import COMPLETE
from operatorcli.exits import MEANING, Exit, Failed
from operatorcli.flags import WIDTH
from operatorcli.verbs import act, doctor, dump, explain, get, options, overview, top, trace, wait, watch
from operatorcli.words import arranged


def made() -> typer.Typer:
    """The command with all its verbs."""
    codes = "\n".join(f"  {int(code):<4} {text}" for code, text in MEANING.items())
    app = typer.Typer(
        name="deltaplane", no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False,
        context_settings={
            "help_option_names": ["-h", "--help"], "max_content_width": WIDTH, "terminal_width": _width(),
        },
        help="Asks the control plane how things are.", epilog=f"\b\nExit codes:\n{codes}",
    )  # fmt: skip
    app.callback()(_root)
    for each in (overview, get, explain, trace, wait, top, watch, doctor, dump, act, options):
        each.add(app)
    return app


def _root() -> None:
    pass


def _width() -> int | None:
    return None if sys.stdout.isatty() else WIDTH


def command() -> TyperGroup:
    """As the parser sees it."""
    return cast(TyperGroup, get_command(made()))


def main(argv: Sequence[str] | None = None, program: str = "deltaplane") -> int:
    """Runs a verb and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    _open_what_is_closed()
    try:
        parser = command()
        if COMPLETE not in os.environ:
            arguments = arranged(arguments, parser.commands)
        parser.main(arguments, prog_name=program, complete_var=COMPLETE)
    except Failed as failure:
        _tell(failure)
        return int(failure.code)
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(Exit.USAGE)
    except OSError as error:  # what is written is lost: on a full disk, mostly
        _tell(_lost(error))
        _forget_output()
        return int(Exit.FAILED)
    return int(Exit.YES)


def leave(code: int) -> NoReturn:
    """Ends the process at once, once all is written.

    gRPC's threads are daemons. One that the interpreter's end stops while it holds a lock, as after Ctrl-C, has that
    end wait for the lock for ever.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        _tell(_lost(error))
        code = int(Exit.FAILED)
    sys.stderr.flush()
    os._exit(code)


def _lost(error: OSError) -> Failed:
    return Failed(Exit.FAILED, error.strerror or str(error), "What it writes, or a part of it, is lost.")


def _open_what_is_closed() -> None:
    """Python has None for a closed standard output; nobody reads what goes there."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - open to the end


def _forget_output() -> None:
    """The interpreter writes at its end what is left, and would fail once more, with an exit code of its own."""
    sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - open to the end


def _tell(failure: Failed) -> None:
    text = f"deltaplane: {failure.text}"
    print(text, file=sys.stderr)
    if failure.advice:
        print(f"  {failure.advice}", file=sys.stderr)
