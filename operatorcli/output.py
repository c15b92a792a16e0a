"""What a verb answers, in the form that -o names. Pure, but for `show`, which writes to a stream."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, TextIO

import yaml
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from msgspec import Struct
from rich.console import Console

from operatorcli import tables
from operatorcli.tables import Block


class Form(StrEnum):
    """Values of -o."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"
    NAME = "name"


class Answer(Struct, frozen=True):
    """`data`: what json and yaml have; `names`: lines of `-o name`, as other verbs take them."""

    blocks: Sequence[Block]
    data: Any
    names: Sequence[str] = ()


def plain(message: Message) -> dict[str, Any]:
    """A message as JSON has it (ProtoJSON: 64-bit numbers are strings), every field under its name in the proto."""
    made: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return made


def written(answer: Answer, form: Form, width: int = tables.WIDTH) -> str:
    """The whole answer as text without colour."""
    match form:
        case Form.JSON:
            return json.dumps(answer.data, indent=2, ensure_ascii=False) + "\n"
        case Form.YAML:
            return str(yaml.safe_dump(answer.data, sort_keys=False, allow_unicode=True, width=tables.WIDTH))
        case Form.NAME:
            return "".join(f"{name}\n" for name in answer.names)
        case _:
            return tables.text(answer.blocks, wide=form is Form.WIDE, width=width)


def show(answer: Answer, form: Form, out: TextIO | None = None) -> None:
    """Writes it, in colour on a terminal (unless NO_COLOR is set)."""
    stream = out or sys.stdout
    if form in (Form.TABLE, Form.WIDE) and stream.isatty():
        console = terminal(stream, wide=form is Form.WIDE)
        for each in tables.drawn(answer.blocks, wide=form is Form.WIDE):
            console.print(each)
        return
    stream.write(written(answer, form))
    stream.flush()


def terminal(stream: TextIO, *, wide: bool = False) -> Console:
    """A console of at most 100 columns; with -o wide, of what the terminal has."""
    there = shutil.get_terminal_size((tables.WIDTH, 24)).columns
    bound = tables.UNBOUNDED if wide else min(tables.WIDTH, there)
    return Console(file=stream, width=bound, no_color="NO_COLOR" in os.environ or None, highlight=False)
