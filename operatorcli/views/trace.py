"""`deltaplane trace`: what a packet met, beside what `explain` said. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deltaplane.v1 import agent_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.names import shown
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Sentence, Table, columns
from operatorcli.views.explain import Told, blocks_of
from operatorcli.views.forwarding import differing

STEPS = columns("TABLE*", "CHAIN*", "RULE*", "VERDICT*")
USERSPACE = "userspace"
RELAYED = (
    "In userspace mode the kernel leads the packet to the agent's own listener; which endpoint the agent connects to is"
    " not the kernel's to tell."
)
Traced = Mapping[str, Any]


def answer(found: agent_pb2.ExplainHereResponse, traced: Traced, mode: str) -> Told:
    """Both, and whether they agree. YES where they do; NO where not, or where no packet came."""
    connection = found.explanation.connection
    agrees = agree(found.explanation, traced, mode)
    data = {"explained": plain(found), "traced": dict(traced), "mode": mode, "agrees": agrees}
    blocks: list[Block] = [
        *blocks_of(found.explanation),
        *differing(found.differences, found.kernel_error),
        Sentence(""),
        *_way(traced),
        _met(connection, traced),
        _verdict(agrees),
        *(Sentence(f"Note: {text}", "faint") for text in traced["notes"]),
    ]
    if mode == USERSPACE:
        blocks.append(Sentence(f"Note: {RELAYED}", "faint"))
    return Answer(blocks, data), Exit.YES if agrees else Exit.NO


def agree(explanation: views_pb2.Explanation, traced: Traced, mode: str) -> bool | None:
    """Whether the packet met what was said; None: no packet came."""
    if not traced["packets"]:
        return None
    translated = traced["endpoint"] not in ("", _asked(explanation.connection))
    if explanation.fate == views_pb2.FATE_REACHES:
        return translated and (mode == USERSPACE or _is_a_choice(explanation, traced))
    if translated:
        return False
    if explanation.fate == views_pb2.FATE_NOT_SERVED:
        return True
    said = {views_pb2.FATE_REFUSED: "refused", views_pb2.FATE_DROPPED: "no answer"}[explanation.fate]
    return bool(traced["sent"] == said) if traced["sent"] else _is_dropped(traced)


def _is_a_choice(explanation: views_pb2.Explanation, traced: Traced) -> bool:
    """Masquerading to the client's own address is none that anyone could see."""
    changed = traced["seen"] != explanation.connection.source
    return any(
        choice.endpoint == traced["endpoint"] and choice.masqueraded >= changed for choice in explanation.choices
    )


def _is_dropped(traced: Traced) -> bool:
    """A rule that refuses drops the packet, too."""
    return any(step["verdict"] == "drop" for step in traced["steps"])


def _asked(connection: views_pb2.Connection) -> str:
    return shown(connection).rpartition("/")[0]


def _way(traced: Traced) -> list[Block]:
    if not traced["steps"]:
        return []
    rows = [(step["table"], step["chain"], step["rule"], step["verdict"]) for step in traced["steps"]]
    return [Table(STEPS, rows, title="The packet's way through the kernel"), Sentence("")]


def _met(connection: views_pb2.Connection, traced: Traced) -> Sentence:
    if not traced["packets"]:
        return Sentence("No packet of this flow came in time.", "warn")
    sent = f" Whoever sent it met: {traced['sent']}." if traced["sent"] else ""
    if traced["endpoint"] in ("", _asked(connection)):
        left = "was left as it is" if traced["endpoint"] else "became no connection"
        return Sentence(f"The packet {left}.{sent}")
    whom = "the client's own address" if traced["seen"] == connection.source else traced["seen"]
    return Sentence(f"The packet was sent to {traced['endpoint']}, which sees {whom}.{sent}")


def _verdict(agrees: bool | None) -> Sentence:
    if agrees is None:
        return Sentence("Nothing to compare: start the connection while this runs, or give a longer --timeout.", "warn")
    if agrees:
        return Sentence("That is what was said.", "good")
    return Sentence(
        "That is NOT what was said: look at the rules above that are not the agent's, and report it.", "bad"
    )
