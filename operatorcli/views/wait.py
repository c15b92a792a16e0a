"""`deltaplane wait`: whether every node's kernel has it, and which lack it and why. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deltaplane.advice import again, next_steps
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import count, listed, seconds, word
from operatorcli.views.basis import silent

SHOWN = 5  # names in a sentence
LACKING = columns("NODE*", "REASON", "WHAT IS KNOWN*", "REPLICA+")


def answer(what: str, last: pb.WaitAppliedResponse, now: float) -> tuple[Answer, Exit]:
    """Of the last message. `what`: what was waited for; `now` in Unix seconds."""
    if last.applied:
        blocks: list[Block] = [Sentence(_yes(what, last), "good"), *_unsure(last)]
    else:
        rows = [_row(each, now) for each in last.lacking]
        more = [Sentence(f"and {count(last.more_lacking, 'more node')}")] if last.more_lacking else []
        blocks = [Sentence(_no(what, last), "bad"), Table(LACKING, rows, empty="no node is named"), *more]
        blocks += _steps(last)
    blocks += silent(last.replicas)
    names = [f"node/{each.node_name}" for each in last.lacking]
    return Answer(blocks, plain(last), names), Exit.YES if last.applied else Exit.NO


def _yes(what: str, last: pb.WaitAppliedResponse) -> str:
    nodes = count(last.chosen_nodes, "node")
    if last.nodes_applied < last.chosen_nodes:
        where = f"{last.nodes_applied} of {nodes}, which are enough,"
    else:
        where = f"all {nodes}" if last.chosen_nodes > 1 else nodes
    return f"{what}: on {where} after {seconds(last.waited_seconds)} (revision {last.rev})."


def _unsure(last: pb.WaitAppliedResponse) -> Iterator[Sentence]:
    """Of nodes that had it when they were heard last."""
    names = list(last.without_stream)
    if names:
        have, them = ("has", "it") if len(names) == 1 else ("have", "them")
        yield Sentence(
            f"{listed(names, SHOWN)} acknowledged it and {have} no stream now: an agent that stopped leaves its rules, "
            f"but what was done there since is not known. `deltaplane get node {names[0]}` says since when, and "
            f"--except={','.join(names[:SHOWN])} leaves {them} out.",
            "warn",
        )


def _no(what: str, last: pb.WaitAppliedResponse) -> str:
    lack = last.chosen_nodes - last.nodes_applied
    text = f"{what}: not on {lack} of {count(last.chosen_nodes, 'node')} after {seconds(last.waited_seconds)}"
    return f"{text}: {last.text}" if last.text else f"{text}."


def _steps(last: pb.WaitAppliedResponse) -> list[Sentence]:
    """What to do about failures: for the first node that has each kind of them."""
    nodes = {each.failure.code: each for each in reversed(last.lacking) if each.HasField("failure")}
    return [Sentence(text) for each in nodes.values() for text in next_steps([each.failure], each.node_name)]


def _row(of: pb.Lacking, now: float) -> tuple[Cell | str, ...]:
    return (
        of.node_name,
        Cell(word(pb.LackReason.Name(of.reason), "LACK_REASON_"), "bad"),
        _known(of, now) or (f"{seconds(of.behind_seconds)} behind" if of.behind_seconds else "-"),
        of.server_id,
    )


def _known(of: pb.Lacking, now: float) -> str:
    if not of.HasField("failure") or not of.failure.retry_unix_nano:
        return of.text
    return f"{of.text}; {again(of.failure.retry_unix_nano, now)}"


def progress(last: pb.WaitAppliedResponse) -> str:
    """How far it is, for a terminal."""
    return f"{last.nodes_applied} of {count(last.chosen_nodes, 'node')} after {seconds(last.waited_seconds)}"
