"""`deltaplane trace`: what a packet met, beside what `explain` said. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from deltaplane.v1 import agent_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.names import shown
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.views.explain import Told, blocks_of
from operatorcli.views.forwarding import differing

STEPS = columns("TABLE*", "CHAIN*", "RULE*", "VERDICT*")
PACKETS = columns("ENDPOINT*", "PACKETS>", "WHAT CAME OF THEM*")
USERSPACE = "userspace"
RELAYED = (
    "In userspace mode the kernel leads the packet to the agent's own listener; which endpoint the agent connects to is"
    " not the kernel's to tell."
)
SLOTS = (
    "A random slot that has no endpoint is drawn again: chain cluster-4 serves all Services of one to four endpoints,"
    " cluster-8 those of up to eight, and so on."
)
SHARED = frozenset(["filter", "nat", "mangle", "raw", "security"])  # iptables' tables: everybody's
ANSWERED = frozenset(["", "connected", "answered"])
REFUSING = frozenset([views_pb2.FATE_REFUSED, views_pb2.FATE_DROPPED])
Traced = Mapping[str, Any]


def answer(found: agent_pb2.ExplainHereResponse, traced: Sequence[Traced], mode: str) -> Told:
    """What the packets met, beside what was said. YES where all agree and no connection failed; else, and where none
    came, NO."""
    explanation = found.explanation
    agrees = [agree(explanation, each, mode) for each in traced]
    failed = [fails(explanation, each) for each in traced]
    worst = [yes is not False for yes in agrees], [not each for each in failed]
    shown_one = min(zip(*worst, traced, strict=True), key=lambda each: each[:2])[2]
    whole = None if None in agrees and False not in agrees else all(agrees)
    data = {
        "explained": plain(found), "traced": dict(shown_one), "mode": mode, "agrees": whole, "failed": any(failed),
        "packets": [{"endpoint": _towards(each), "result": _result(each)} for each in traced],
    }  # fmt: skip
    blocks: list[Block] = [
        *_met(explanation.connection, shown_one),
        _verdict(whole, shown_one, failed=any(failed)),
        *_advice(explanation, shown_one),
        Sentence(""),
        *_all(traced),
        *_way(shown_one),
        Sentence("What explain says of it:", "strong"),
        *blocks_of(explanation),
        *differing(found.differences, found.kernel_error),
        *(Sentence(f"Note: {text}", "faint") for text in _notes(shown_one, mode)),
    ]
    return Answer(blocks, data), Exit.YES if whole and not any(failed) else Exit.NO


def agree(explanation: views_pb2.Explanation, traced: Traced, mode: str) -> bool | None:
    """Whether the packet met what was said; None: no packet came."""
    if not traced["packets"]:
        return None
    if traced["dropped"] and explanation.fate not in REFUSING:
        return False
    translated = traced["endpoint"] not in ("", _asked(explanation.connection))
    if explanation.fate == views_pb2.FATE_REACHES:
        return translated and (mode == USERSPACE or _is_a_choice(explanation, traced))
    if translated:
        return False
    if explanation.fate == views_pb2.FATE_NOT_SERVED:
        return True
    said = {views_pb2.FATE_REFUSED: "refused", views_pb2.FATE_DROPPED: "no answer"}[explanation.fate]
    return bool(traced["sent"] == said) if traced["sent"] else bool(traced["dropped"])


def fails(explanation: views_pb2.Explanation, traced: Traced) -> bool:
    """Whether it went as was said to where somebody should answer, and the connection failed all the same. What a
    datagram gets no answer to may be right."""
    if not traced["packets"] or traced["dropped"] or explanation.fate in REFUSING:
        return False
    silent = traced["sent"] not in ANSWERED and explanation.connection.protocol != "UDP"
    return bool(traced["answer_dropped"]) or silent


def _towards(traced: Traced) -> str:
    """Where the first packet went; one that was dropped is not what became of a later one."""
    endpoint: str = traced["dropped_to"] if traced["dropped"] else traced["endpoint"]
    return endpoint


def _is_a_choice(explanation: views_pb2.Explanation, traced: Traced) -> bool:
    """Masquerading to the client's own address is none that anyone could see."""
    changed = traced["seen"] != explanation.connection.source
    return any(
        choice.endpoint == traced["endpoint"] and choice.masqueraded >= changed for choice in explanation.choices
    )


def _asked(connection: views_pb2.Connection) -> str:
    return shown(connection).rpartition("/")[0]


def _place(step: Traced) -> str:
    whose = "" if _is_the_agents(step) else ", which is not the agent's"
    rule = "by its policy" if step["rule"] == "(policy)" else f"by the rule: {step['rule']}"
    return f"in table {step['table']}, chain {step['chain']}{whose}, {rule}"


def _is_the_agents(step: Traced) -> bool:
    """In iptables' tables the agent's chains have kube-proxy's names."""
    table = step["table"].partition(" ")[2]
    return table.startswith("deltaplane") or (table in SHARED and step["chain"].startswith(("KUBE-", "DELTAPLANE")))


def _all(traced: Sequence[Traced]) -> list[Block]:
    """What came of several packets, by endpoint."""
    if len(traced) == 1:
        return []
    counted = Counter((_towards(each) or "-", _result(each)) for each in traced)
    rows = [(endpoint, str(count), result) for (endpoint, result), count in sorted(counted.items())]
    return [Table(PACKETS, rows, title=f"{len(traced)} packets, one after the other"), Sentence("")]


def _result(traced: Traced) -> str:
    if not traced["packets"]:
        return "none came"
    if traced["dropped"]:
        return f"the first was dropped {_place(traced['dropped'])}"
    if traced["answer_dropped"]:
        return f"an answer was dropped {_place(traced['answer_dropped'])}"
    return traced["sent"] or "not sent from here"


def _way(traced: Traced) -> list[Block]:
    if not traced["steps"]:
        return []
    rows = [
        (step["table"], step["chain"], step["rule"], Cell(step["verdict"], "bad" if step["verdict"] == "drop" else ""))
        for step in traced["steps"]
    ]
    return [Table(STEPS, rows, title="The first packet's way through the kernel"), Sentence("")]


def _met(connection: views_pb2.Connection, traced: Traced) -> list[Block]:
    if not traced["packets"]:
        return [Sentence("No packet of this flow came in time.", "warn")]
    found: list[Block] = []
    if traced["dropped"]:
        to = f", to {traced['dropped_to']}," if traced["dropped_to"] else ""
        found.append(Sentence(f"The first packet{to} was dropped {_place(traced['dropped'])}.", "bad"))
    which = "A later packet" if traced["dropped"] else "The packet"
    sent = f" Whoever sent it met: {traced['sent']}." if traced["sent"] else ""
    if traced["endpoint"] in ("", _asked(connection)):
        left = f"{which} was left as it is." if traced["endpoint"] else "No connection was made."
        return [*found, Sentence(f"{left}{sent}")]
    whom = "the client's own address" if traced["seen"] == connection.source else traced["seen"]
    return [*found, Sentence(f"{which} was sent to {traced['endpoint']}, which sees {whom}.{sent}")]


def _verdict(agrees: bool | None, traced: Traced, *, failed: bool) -> Sentence:
    if agrees is None:
        return Sentence("Nothing to compare: start the connection while this runs, or give a longer --timeout.", "warn")
    if agrees and failed:
        return Sentence("The agent's rules did what was said, and yet the connection failed.", "bad")
    if agrees:
        return Sentence("That is what was said.", "good")
    foreign = traced["dropped"] and not _is_the_agents(traced["dropped"])
    advice = "explain knows the agent's rules only, and this one is another's" if foreign else "report it"
    return Sentence(f"That is NOT what was said: {advice}.", "bad")


def _advice(explanation: views_pb2.Explanation, traced: Traced) -> list[Block]:
    """Where to look next when the packet passed and still nobody answered."""
    if traced["answer_dropped"]:
        return [Sentence(f"An answer came, and was dropped {_place(traced['answer_dropped'])}.", "bad")]
    lost = traced["packets"] and not traced["dropped"] and traced["sent"] not in ANSWERED
    if not lost or explanation.fate in REFUSING:
        return []
    text = "No rule of this node dropped the packet, and none dropped an answer: look at the endpoint and its node."
    return [Sentence(text, "warn")]


def _notes(traced: Traced, mode: str) -> list[str]:
    slots = [SLOTS] if any("numgen random" in step["rule"] for step in traced["steps"]) else []
    return [*traced["notes"], *slots, *([RELAYED] if mode == USERSPACE else [])]
