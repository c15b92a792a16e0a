"""`deltaplane diff`: in what two nodes differ. Pure."""

from __future__ import annotations

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Column, Sentence, Table
from operatorcli.text import count, key
from operatorcli.views.basis import doubts


def answer(found: pb.DiffResponse, node: str, other: str) -> tuple[Answer, Exit]:
    """YES: no difference."""
    names = [Column(node, folds=True), Column(other, folds=True)]
    blocks: list[Block] = []
    if found.fields:
        fields = [(each.field, each.node or "-", each.other or "-") for each in found.fields]
        blocks += [Table([Column("AGENT", folds=True), *names], fields), Sentence("")]
    if found.services:
        services = [(key(each.service), each.frontend, each.node or "-", each.other or "-") for each in found.services]
        blocks += [Table([Column("SERVICE", folds=True), Column("FRONTEND", folds=True), *names], services)]
    if found.more_services:
        blocks.append(Sentence(f"and {count(found.more_services, 'more difference')}"))
    same = not found.fields and not found.services
    if same:
        blocks.append(Sentence(f"{node} and {other} do not differ.", "good"))
    blocks += [*doubts(node, found.node), *doubts(other, found.other)]
    keys = list(dict.fromkeys(key(each.service) for each in found.services))
    return Answer(blocks, plain(found), keys), Exit.YES if same else Exit.NO
