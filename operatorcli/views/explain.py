"""`deltaplane explain`: what becomes of a connection, and why. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltaplane.advice import next_steps
from deltaplane.v1 import agent_pb2, inspection_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.names import shown
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import key
from operatorcli.views.basis import heading, is_so
from operatorcli.views.forwarding import differing
from operatorcli.views.node import foreign

DECISIONS = columns("DECIDED BY", "FOUND*", "WHY*")
CHOICES = columns("ENDPOINT*", "SHARE>", "STATE*", "NODE*", "ZONE*", "SOURCE ADDRESS")
NEAR = columns("NEAR SERVICE*", "FRONTEND*", "WHY*")
FATES = {
    views_pb2.FATE_REACHES: ("reaches", "good"),
    views_pb2.FATE_REFUSED: ("is refused at once", "bad"),
    views_pb2.FATE_DROPPED: ("is dropped without an answer", "bad"),
    views_pb2.FATE_NOT_SERVED: ("is of no Service here: this proxy leaves the packets alone", "warn"),
}
Told = tuple[Answer, Exit]


def answer(found: inspection_pb2.ExplainResponse, node: str, now: float) -> Told:
    """By a replica. YES where an endpoint is reached, and the node has all of that. `now` in Unix seconds."""
    so = is_so(found.basis, found.failed)
    wanted = bool(found.failed) or not found.basis.acknowledged
    blocks = [*heading(node, found.basis, found.failed, now), *blocks_of(found.explanation, wanted=wanted)]
    yes = so and found.explanation.fate == views_pb2.FATE_REACHES
    return Answer(blocks, plain(found), _names(found.explanation)), Exit.YES if yes else Exit.NO


def here(found: agent_pb2.ExplainHereResponse, agent: agent_pb2.GetAgentResponse) -> Told:
    """By the agent itself, compared with the kernel."""
    explained = blocks_of(found.explanation, wanted=bool(found.differences))
    failures = [each for each in agent.failed if each.key == found.explanation.service and found.differences]
    compared = differing(found.differences, found.kernel_error)
    compared += [Sentence(text) for text in next_steps(failures, agent.node_name)]
    blocks = [*compared, Sentence(""), *explained] if found.differences else [*explained, *compared]
    blocks += [
        Sentence(f"Elsewhere: {text}; this connection has nothing to do with it.", "faint") for text in found.elsewhere
    ]
    if others := foreign(found):
        blocks.append(Sentence(f"Not part of this answer, other programs' rules: {others}.", "warn"))
    reached = found.explanation.fate == views_pb2.FATE_REACHES
    yes = reached and not found.differences
    return Answer(blocks, plain(found), _names(found.explanation)), Exit.YES if yes else Exit.NO


def _names(explanation: views_pb2.Explanation) -> list[str]:
    near = [key(each.service) for each in explanation.near]
    return [key(explanation.service)] if explanation.service.name else list(dict.fromkeys(near))


def blocks_of(explanation: views_pb2.Explanation, *, wanted: bool = False) -> list[Block]:
    """The verdict, and what it is made of. `wanted`: the kernel may do something else."""
    blocks: list[Block] = [_verdict(explanation, wanted=wanted), Sentence("")]
    if explanation.decisions:
        decisions = [(each.what, each.found, each.why) for each in explanation.decisions]
        blocks += [Table(DECISIONS, decisions), Sentence("")]
    if explanation.choices:
        blocks += [Table(CHOICES, [_choice(each) for each in explanation.choices]), Sentence("")]
    if explanation.near:
        blocks += [
            Table(NEAR, [(key(each.service), each.frontend, each.why) for each in explanation.near]),
            Sentence(""),
        ]
    return [*blocks, *(Sentence(f"Taken for granted: {text}", "faint") for text in explanation.assumptions)]


def _verdict(explanation: views_pb2.Explanation, *, wanted: bool) -> Sentence:
    text, tone = FATES.get(explanation.fate, ("has an unknown fate", "warn"))
    what = f"{explanation.connection.source} to {shown(explanation.connection)}"
    by = " " if explanation.fate == views_pb2.FATE_REACHES else " by "
    service = f"{by}{key(explanation.service)}" if explanation.service.name else ""
    return Sentence(f"{'Wanted: ' if wanted else ''}{what} {text}{service}.", "warn" if wanted else tone)


def _choice(of: views_pb2.Choice) -> Sequence[Cell | str]:
    return (
        of.endpoint,
        f"{100 * of.probability:.1f} %",
        of.conditions or "-",
        of.node or "-",
        of.zone or "-",
        "the node's" if of.masqueraded else "its own",
    )
