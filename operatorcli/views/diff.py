"""`deltaplane diff`: in what two nodes differ. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deltaplane.advice import may_have_it
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Column, Sentence, Table
from operatorcli.text import count, key, word
from operatorcli.views.basis import lacks

WORDS = {
    "state": "agent's stream",
    "proxy_mode": "proxy mode",
    "proxy_mode_asked": "--proxy-mode",
    "proxy_mode_reason": "why this mode",
    "agent_version": "version",
    "server_id": "replica",
    "epoch": "history of the replica",
    "applied_rev": "revision in the kernel",
}


def answer(found: pb.DiffResponse, node: str, other: str, now: float) -> tuple[Answer, Exit]:
    """YES: no difference, and both have what is compared. `now` in Unix seconds."""
    names = [Column(node, folds=True), Column(other, folds=True)]
    sides = ((node, found.node), (other, found.other))
    behind = [Sentence(text, "bad") for name, basis in sides for text in _behind(name, basis, now)]
    blocks: list[Block] = [*behind, *([Sentence("")] if behind else [])]
    if found.fields:
        fields = [(_field(each.field), _value(each, each.node), _value(each, each.other)) for each in found.fields]
        blocks += [Table([Column("AGENT", folds=True), *names], fields), Sentence("")]
    if found.services:
        services = [
            (key(each.service), each.frontend or "-", each.node or "-", each.other or "-") for each in found.services
        ]
        blocks += [Table([Column("SERVICE", folds=True), Column("FRONTEND", folds=True), *names], services)]
    if found.more_services:
        blocks.append(Sentence(f"and {count(found.more_services, 'more difference')}"))
    same = not found.fields and not found.services
    if same:
        what = "do not differ in what is known of them" if behind else "do not differ"
        blocks.append(Sentence(f"{node} and {other} {what}.", "warn" if behind else "good"))
    elif not found.services:
        blocks.append(Sentence("They forward the same, as far as they have acknowledged."))
    keys = list(dict.fromkeys(key(each.service) for each in found.services))
    return Answer(blocks, plain(found), keys), Exit.YES if same and not behind else Exit.NO


def _behind(name: str, basis: pb.Basis, now: float) -> Iterator[str]:
    if basis.silent_replicas:
        yield f"It is not known what {name} has: {may_have_it(basis.silent_replicas)}."
    elif not basis.acknowledged or basis.changed:
        yield f"{name} does not have the newest: {lacks(name, basis, now)}."


def _field(name: str) -> str:
    return WORDS.get(name, name)


def _value(of: pb.FieldDifference, text: str) -> str:
    return word(text, "NODE_STATE_") if of.field == "state" else text or "-"
