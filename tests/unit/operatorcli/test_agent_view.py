"""An agent by itself: where its stream leads, what it tries, and what to do."""

from __future__ import annotations

import pytest

from deltaplane.v1 import agent_pb2
from operatorcli.exits import Exit
from operatorcli.output import Form, written
from operatorcli.views import node
from operatorcli.views.nodes import brought_up
from tests.unit.operatorcli.long import NOW, failing, service

WHERE = "192.0.2.10:50051"


def agent(**fields: object) -> agent_pb2.GetAgentResponse:
    given = {
        "node_name": "node-a", "rev": 47, "epoch": "0a812e8996", "complete": True, "servers": [WHERE], "server": WHERE,
        "since_unix_nano": int((NOW - 200) * 1e9),
    } | fields  # fmt: skip
    return agent_pb2.GetAgentResponse(**given)  # type: ignore[arg-type]


def said(found: agent_pb2.GetAgentResponse) -> tuple[str, Exit]:
    answer, code = node.here(found, NOW)
    return " ".join(written(answer, Form.TABLE).split()), code


def test_a_stream_says_where_from_and_since_when() -> None:
    text, code = said(agent(connected=True))

    assert code is Exit.YES
    assert f"stream from {WHERE} for 3m20s" in text
    assert "The kernel has all of it" in text


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        ("nothing heard for 30 s", "Nothing comes back: see firewalls and routes in both directions"),
        ("UNAVAILABLE: Connection timed out", "Nothing comes back"),
        ("UNAVAILABLE: connect: Connection refused", "Nothing listens there"),
        ("UNAUTHENTICATED: no token", "See the last error"),
    ],
)
def test_no_stream_says_what_is_tried_and_the_last_error(error: str, advice: str) -> None:
    text, code = said(agent(last_error=error, last_error_server=WHERE, last_error_unix_nano=int((NOW - 4) * 1e9)))

    assert code is Exit.NO
    assert f"stream none for 3m20s; tried last: {WHERE}" in text
    assert f"last error 4.0s ago, at {WHERE}: {error}" in text
    assert advice in text


def test_a_failure_says_the_next_try_and_the_next_step() -> None:
    failure = failing(key=service("web", "shop"))
    failure.retry_unix_nano = int((NOW + 7) * 1e9)

    text, code = said(agent(connected=True, pending=True, failed=[failure]))

    assert code is Exit.NO
    assert "svc/shop/web fails with KERNEL_REJECTED: no room in the set; tried again in 7.0s." in text
    assert "deltaplane resync node-a" in text
    assert "Something is not in the kernel yet" not in text


def test_what_an_agent_without_a_stream_says_may_be_old() -> None:
    assert node.stale(agent(connected=True), NOW) == []
    (above, _) = node.stale(agent(), NOW)
    assert "node-a's agent has had no stream for 3m20s" in getattr(above, "text", "")


@pytest.mark.parametrize(
    ("told", "shown"),
    [
        ("CONNECTED: whole, the whole state", "everything, on connecting"),
        ("CONNECTED: nothing, revision 43 is in the log", "nothing (revision 43 is in the log), on connecting"),
        ("GAP: partial, 3 of 256 BUCKET", "what differed (3 of 256 BUCKET), because a change was missing"),
        ("of a later version", "of a later version"),
    ],
)
def test_how_a_state_was_brought_up_is_said_in_words(told: str, shown: str) -> None:
    assert brought_up(told) == shown
