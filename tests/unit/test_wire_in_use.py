"""Every field of the stream is written by the program that sends it: one that stays at its default says nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from deltaplane.v1 import delta_pb2

REPOSITORY = Path(__file__).parents[2]
BY_THE_AGENT = {
    "WatchRequest",
    "Hello",
    "Resume",
    "Ack",
    "ObjectFailure",
    "CommitReport",
    "ResyncRequest",
    "Drain",
    "Brake",
    "Digests",
}
BY_BOTH = {"ResourceVersion"}
NOT_SENT_YET = {
    "Hello.node_uid",  # the agent has no way to know it until it has an identity
    "Hello.scope",  # empty: the whole cluster; nothing smaller is sent
    "Error.code",  # a replica says why with the stream's status; agents understand the message all the same
    "Error.retryable",
    "Error.detail",
}


def named_in(program: str) -> set[str]:
    """Every attribute and keyword argument in a program's own modules."""
    found: set[str] = set()
    for path in (REPOSITORY / program).rglob("*.py"):
        if "_pb2" in path.name:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(attr=name) | ast.keyword(arg=str(name)):
                    found.add(name)
    return found


SHARED = named_in("deltaplane")
NAMED = {program: named_in(program) | SHARED for program in ("controlplane", "nodeagent")}


def fields() -> Iterator[tuple[str, str]]:
    """(program that sends it, Message.field)."""
    for message in delta_pb2.DESCRIPTOR.message_types_by_name.values():
        agent = message.name in BY_THE_AGENT
        for program in (
            ["controlplane", "nodeagent"] if message.name in BY_BOTH else ["nodeagent" if agent else "controlplane"]
        ):
            yield from ((program, f"{message.name}.{field.name}") for field in message.fields)


@pytest.mark.parametrize(("program", "field"), list(fields()))
def test_a_field_is_written_by_the_program_that_sends_it(program: str, field: str) -> None:
    written = field.rpartition(".")[2] in NAMED[program]

    assert written or field in NOT_SENT_YET
