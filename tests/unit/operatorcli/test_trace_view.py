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


def met(
    endpoint: str = "", seen: str = "", sent: str = "", verdict: str = "accept", packets: int = 1
) -> dict[str, Any]:
    step = {"table": "ip deltaplane", "chain": "services", "rule": "drop", "verdict": verdict}
    return {
        "packets": packets, "steps": [step] * bool(packets), "sent": sent, "endpoint": endpoint, "seen": seen,
        "notes": [], "error": "",
    }  # fmt: skip


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
        (said(REACHES), met(packets=0), None),
    ],
)
def test_the_packet_is_held_against_what_was_said(
    explanation: views_pb2.Explanation, traced: dict[str, Any], agrees: bool | None
) -> None:
    assert agree(explanation, traced, "nftables") is agrees


def test_in_userspace_mode_the_packet_ends_at_the_agents_listener() -> None:
    assert agree(said(REACHES), met("169.254.86.1:41000", POD), "userspace")
    told, _ = answer(
        agent_pb2.ExplainHereResponse(explanation=said(REACHES)), met("169.254.86.1:41000", POD), "userspace"
    )
    assert "not the kernel's to tell" in " ".join(written(told, Form.TABLE).split())


@pytest.mark.parametrize(
    ("traced", "code", "text"),
    [
        (met(ENDPOINT, POD), Exit.YES, "That is what was said."),
        (met("10.0.1.4:8080", POD), Exit.NO, "That is NOT what was said"),
        (met(packets=0), Exit.NO, "No packet of this flow came in time."),
    ],
)
def test_both_are_shown_beside_each_other_within_100_columns(traced: dict[str, Any], code: Exit, text: str) -> None:
    told, ends = answer(agent_pb2.ExplainHereResponse(explanation=said(REACHES)), traced, "nftables")
    shown = written(told, Form.TABLE)
    assert ends is code
    assert f"{POD} to {SERVICE}:80/TCP reaches" in shown
    assert text in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert told.data["agrees"] is (None if not traced["packets"] else code is Exit.YES)
