"""The fate of one real packet, in the corpus' words. Whoever may be met listens before it is sent."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from tests.flows.network import BYSTANDER, Network
from tests.flows.scenario import DROP, PASS, REACH, REFUSED, Outcome, join, split
from tests.questions.questions import Question
from tools.lab import client

SHORT, LONG = 0.5, 4.0  # seconds to wait where nothing should answer, and where something should
_KINDS = {client.REFUSED: REFUSED, client.TIMEOUT: DROP}


def prepare(network: Network, asked: Sequence[Question], said: Sequence[Outcome]) -> None:
    """Clients are there, the endpoints that were named answer, and somebody does wherever a question goes."""
    for question, answer in zip(asked, said, strict=True):
        network.host(question.source)
        for end, _ in answer.ends:
            network.listen(*split(end), question.protocol)
    for question in asked:
        _stand_by(network, question)


def _stand_by(network: Network, question: Question) -> None:
    if network.has(question.to) and not ip_address(question.to).is_loopback:
        network.listen(question.to, question.port, question.protocol)
    else:
        network.stand_by(question.to, question.port, question.protocol)


def fate(network: Network, question: Question, said: Outcome) -> Outcome:
    """What becomes of one connection; `said` tells how long to wait for nothing.

    A datagram that is to be answered and is not is sent once more: a busy machine loses one, a rule drops each.
    """
    seen = _once(network, question, said)
    lost = seen.kind == DROP != said.kind and question.protocol == "udp"
    return _once(network, question, said) if lost else seen


def _once(network: Network, question: Question, said: Outcome) -> Outcome:
    space, patience = network.host(question.source), SHORT if said.kind == DROP else LONG
    found = client.connect(
        space, question.to, question.port, question.protocol, timeout=patience, source=(question.source, 0)
    )
    return _read(question, found)


def _read(question: Question, found: client.Outcome) -> Outcome:
    if not found.answered:
        stays = found.kind == client.UNREACHABLE and ip_address(question.source).is_loopback  # a datagram is not sent
        return Outcome(DROP if stays else _KINDS.get(found.kind, found.kind))
    if found.name.startswith(BYSTANDER) or found.name == join(question.to, question.port):
        return Outcome(PASS)
    return Outcome(REACH, frozenset({(found.name, found.seen != question.source)}))


def agrees(network: Network, question: Question, said: Outcome, seen: Outcome) -> bool:
    """Whether the packet met what was said: one of the endpoints, masqueraded or not.

    Where the node reaches itself, its address is the same masqueraded and not.
    """
    ends = said.ends
    if network.is_own(question.source):
        ends |= {(end, not masqueraded) for end, masqueraded in ends if network.is_own(split(end)[0])}
    return said.kind == seen.kind and seen.ends <= ends


def met_itself(question: Question, said: Outcome, seen: Outcome) -> bool:
    """Whether it was lost where `explain` says so: at the client itself, by its own address, as of another node."""
    itself = any(split(end)[0] == question.source and not masqueraded for end, masqueraded in said.ends)
    return seen.kind == DROP and itself
