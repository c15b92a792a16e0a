"""`deltaplane trace`: whether the packet met what was said, and what is shown of it."""

from __future__ import annotations

from typing import Any

import pytest

from deltaplane.v1 import agent_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.output import Form, written
from operatorcli.views.trace import agree, answer

POD, NODE, SERVICE, ENDPOINT = "10.0.0.2", "192.0.2.1", "10.96.0.1", "10.0.1.3:8080"
REACHES, REFUSED = views_pb2.FATE_REACHES, views_pb2.FATE_REFUSED
DROPPED, NOT_SERVED = views_pb2.FATE_DROPPED, views_pb2.FATE_NOT_SERVED


def said(fate: views_pb2.Fate.ValueType, *, masqueraded: bool = False) -> views_pb2.Explanation:
    choices = [views_pb2.Choice(endpoint=ENDPOINT, probability=1.0, masqueraded=masqueraded)]
    return views_pb2.Explanation(
        connection=views_pb2.Connection(source=POD, address=SERVICE, port=80, protocol="TCP"),
        fate=fate,
        choices=choices if fate == REACHES else [],
    )


FILTER = {"table": "inet edgefilter", "chain": "forwarded", "rule": f"ip daddr {ENDPOINT[:8]} drop", "verdict": "drop"}


def met(
    endpoint: str = "", seen: str = "", sent: str = "", verdict: str = "accept", packets: int = 1, **more: Any
) -> dict[str, Any]:
    step = {"table": "ip deltaplane", "chain": "services", "rule": "drop", "verdict": verdict}
    return {
        "packets": packets, "steps": [step] * bool(packets), "sent": sent, "endpoint": endpoint, "seen": seen,
        "dropped": step if verdict == "drop" else None, "dropped_to": "", "answer_dropped": None,
        "notes": [], "error": "", **more,
    }  # fmt: skip


def told(explanation: views_pb2.Explanation, *traced: dict[str, Any], mode: str = "nftables") -> tuple[str, Exit]:
    """The text with single blanks, and the exit code."""
    found, code = answer(agent_pb2.ExplainHereResponse(explanation=explanation), traced, mode)
    return " ".join(written(found, Form.TABLE).split()), code


@pytest.mark.parametrize(
    ("explanation", "traced", "agrees"),
    [
        (said(REACHES), met(ENDPOINT, POD), True),
        (said(REACHES), met(ENDPOINT, NODE), False),
        (said(REACHES, masqueraded=True), met(ENDPOINT, NODE), True),
        (said(REACHES), met("10.0.1.4:8080", POD), False),
        (said(REACHES), met(sent="no answer"), False),
        (said(REACHES), met(f"{SERVICE}:80", POD), False),
        (said(REFUSED), met(sent="refused", verdict="drop"), True),
        (said(REFUSED), met(sent="no answer", verdict="drop"), False),
        (said(REFUSED), met(verdict="drop"), True),
        (said(REFUSED), met(ENDPOINT, POD), False),
        (said(DROPPED), met(sent="no answer", verdict="drop"), True),
        (said(DROPPED), met(sent="refused", verdict="drop"), False),
        (said(NOT_SERVED), met(f"{SERVICE}:80", POD, sent="refused"), True),
        (said(NOT_SERVED), met(ENDPOINT, POD), False),
        (said(NOT_SERVED), met(sent="no answer", verdict="drop"), False),
        (said(REACHES), met(ENDPOINT, POD, "connected", verdict="drop"), False),
        (said(REACHES), met(packets=0), None),
    ],
)
def test_the_packet_is_held_against_what_was_said(
    explanation: views_pb2.Explanation, traced: dict[str, Any], agrees: bool | None
) -> None:
    assert agree(explanation, traced, "nftables") is agrees


def test_in_userspace_mode_the_packet_ends_at_the_agents_listener() -> None:
    assert agree(said(REACHES), met("169.254.86.1:41000", POD), "userspace")
    assert "not the kernel's to tell" in told(said(REACHES), met("169.254.86.1:41000", POD), mode="userspace")[0]


@pytest.mark.parametrize(
    ("traced", "code", "text"),
    [
        (met(ENDPOINT, POD), Exit.YES, "That is what was said."),
        (met("10.0.1.4:8080", POD), Exit.NO, "That is NOT what was said"),
        (met(packets=0), Exit.NO, "No packet of this flow came in time."),
    ],
)
def test_both_are_shown_beside_each_other_within_100_columns(traced: dict[str, Any], code: Exit, text: str) -> None:
    found, ends = answer(agent_pb2.ExplainHereResponse(explanation=said(REACHES)), [traced], "nftables")
    shown = written(found, Form.TABLE)
    assert ends is code
    assert f"{POD} to {SERVICE}:80/TCP reaches" in shown
    assert text in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert found.data["agrees"] is (None if not traced["packets"] else code is Exit.YES)


def test_a_first_packet_that_another_programs_rule_drops_is_not_what_was_said_though_a_later_one_connects() -> None:
    text, code = told(said(REACHES), met(ENDPOINT, POD, "connected", verdict="drop", dropped=FILTER))

    assert code is Exit.NO
    assert text.startswith(
        "The first packet was dropped in table inet edgefilter, chain forwarded, which is not the agent's, by the rule:"
    )
    assert f"A later packet was sent to {ENDPOINT}" in text
    assert "That is NOT what was said: explain knows the agent's rules only, and this one is another's." in text


def test_an_answer_that_a_rule_of_this_node_drops_is_told() -> None:
    text, code = told(said(REACHES), met(ENDPOINT, POD, "no answer", answer_dropped=FILTER))

    assert code is Exit.NO
    assert "The agent's rules did what was said, and yet the connection failed." in text
    assert "An answer came, and was dropped in table inet edgefilter" in text
    assert "That is what was said." not in text


@pytest.mark.parametrize("fate", [REACHES, NOT_SERVED])
@pytest.mark.parametrize(
    ("protocol", "sent", "code"),
    [
        ("TCP", "connected", Exit.YES),
        ("TCP", "", Exit.YES),
        ("TCP", "no answer", Exit.NO),
        ("TCP", "refused", Exit.NO),
        ("UDP", "no answer", Exit.YES),
    ],
)
def test_a_connection_that_fails_beyond_the_agents_rules_is_a_no(
    fate: Any, protocol: str, sent: str, code: Exit
) -> None:
    explanation = said(fate)
    explanation.connection.protocol = protocol

    assert told(explanation, met(ENDPOINT if fate == REACHES else "", POD, sent))[1] is code


@pytest.mark.parametrize("fate", [REACHES, NOT_SERVED])
def test_where_nothing_here_drops_the_packet_and_nobody_answers_it_says_where_to_look(fate: Any) -> None:
    text, _ = told(said(fate), met(ENDPOINT if fate == REACHES else "", POD, "no answer"))

    assert "look at the endpoint and its node" in text


def test_of_several_packets_one_that_is_not_as_said_is_shown_and_all_are_counted() -> None:
    good, other = met(ENDPOINT, POD, "connected"), "10.0.1.9:8080"
    bad = met(ENDPOINT, POD, "connected", verdict="drop", dropped=FILTER, dropped_to=other)
    text, code = told(said(REACHES), good, bad, good)

    assert code is Exit.NO
    assert text.startswith(f"The first packet, to {other}, was dropped in table inet edgefilter")
    assert f"{other} 1 the first was dropped" in text, "not the endpoint that the client reached later"
    assert "3 packets, one after the other" in text
    assert f"{ENDPOINT} 2 connected" in text


def test_that_a_random_slot_is_drawn_again_is_said_where_it_is_seen() -> None:
    step = {"table": "ip deltaplane", "chain": "cluster-4", "rule": "numgen random mod 4", "verdict": "continue"}

    assert "one to four endpoints" in told(said(REACHES), met(ENDPOINT, POD, "connected", steps=[step]))[0]
    assert "one to four endpoints" not in told(said(REACHES), met(ENDPOINT, POD, "connected"))[0]
