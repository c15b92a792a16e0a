"""controlplane.identity.tokens: who is asked about a token, how often, and what is remembered for how long."""

from __future__ import annotations

import asyncio
import base64
import json
import logging

import msgspec
import pytest

from controlplane.identity import tokens
from controlplane.identity.peer import Refusal, User
from controlplane.identity.refused import KEYS, PERIOD, Refused
from controlplane.identity.reviews import _TokenReview, judged
from controlplane.identity.tokens import FRESH, LATE, OF_ONE_HOST, REFUSED, Found, Tokens, Unanswered

AUDIENCE = "deltaplane.dev/control-plane"
NOW = 1_000_000.0
LIFE = 3600


def jwt(**claims: object) -> str:
    body = {"aud": [AUDIENCE], "exp": NOW + LIFE, "sub": "s"} | claims
    return f"e30.{base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip('=')}.sig"


class Server:
    """Answers with `says`, or not at all; `asked`: how often. `hold`: until set, nobody is answered."""

    def __init__(self) -> None:
        self.says: Found | None = User("agent")
        self.asked = 0
        self.clock = 0.0
        self.hold: asyncio.Event | None = None
        self.tokens = Tokens(self.ask, AUDIENCE, now=lambda: NOW + self.clock, monotonic=lambda: self.clock)

    async def ask(self, token: str) -> Found:
        self.asked += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.says is None:
            raise Unanswered("refused")
        return self.says


@pytest.fixture
def server() -> Server:
    return Server()


def reason(found: Found) -> str:
    assert isinstance(found, Refusal), found
    return found.reason


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "no-token"),
        ("opaque", "no-jwt"),
        ("a.b.c", "no-jwt"),
        ("a.é.c", "no-jwt"),
        ("a." + "W10" + ".c", "no-jwt"),
        ("a." + base64.urlsafe_b64encode(b"[" * 9000).decode() + ".c", "no-jwt"),
        (jwt(pad="x" * tokens.MOST_CHARACTERS), "no-jwt"),
        (jwt(aud="https://kubernetes.default.svc"), "audience"),
        (jwt(aud=[]), "audience"),
        (jwt(aud=AUDIENCE + "/more"), "audience"),
        (jwt(exp=NOW - LATE - 1), "expired"),
    ],
)
async def test_nobody_is_asked_about_what_can_be_no_token_of_ours(server: Server, token: str, why: str) -> None:
    assert reason(await server.tokens.who(token)) == why
    assert (server.asked, len(server.tokens)) == (0, 0)


async def test_an_answer_counts_for_a_while_and_then_is_asked_for_anew(server: Server) -> None:
    assert await server.tokens.who(jwt()) == User("agent")
    server.clock = FRESH - 1
    assert await server.tokens.who(jwt()) == User("agent")
    assert server.asked == 1

    server.clock = FRESH + 1
    server.says = Refusal("UNAUTHENTICATED", "not-authenticated", "its pod is gone")
    assert reason(await server.tokens.who(jwt())) == "not-authenticated"
    assert server.asked == 2


async def test_no_answer_counts_for_longer_than_the_token_lives(server: Server) -> None:
    token = jwt(exp=NOW + 30)
    await server.tokens.who(token)

    server.clock = 31
    await server.tokens.who(token)
    assert server.asked == 2


async def test_a_refusal_is_remembered_for_a_moment(server: Server) -> None:
    server.says = Refusal("UNAUTHENTICATED", "not-authenticated", "no")
    for _ in range(5):
        assert reason(await server.tokens.who(jwt())) == "not-authenticated"
    assert server.asked == 1

    server.clock, server.says = REFUSED + 1, User("agent")
    assert await server.tokens.who(jwt()) == User("agent")


async def test_while_the_api_server_is_away_what_it_said_of_a_token_goes_on_counting(server: Server) -> None:
    await server.tokens.who(jwt())
    server.says, server.clock = None, FRESH + 1

    assert await server.tokens.who(jwt()) == User("agent")
    assert reason(await server.tokens.who(jwt(jti="unknown"))) == "unanswered"
    server.clock = LIFE + 1
    assert reason(await server.tokens.who(jwt())) == "unanswered"


async def test_with_a_clock_a_day_behind_a_token_counts_no_longer_than_it_was_made_for(server: Server) -> None:
    token = jwt(iat=NOW)
    server.tokens = Tokens(server.ask, AUDIENCE, now=lambda: NOW - 86_400, monotonic=lambda: server.clock)
    assert isinstance(await server.tokens.who(token), User)
    server.says, server.clock = None, LIFE - 1
    assert isinstance(await server.tokens.who(token), User)
    server.clock = LIFE
    assert reason(await server.tokens.who(token)) == "unanswered"


async def test_with_a_clock_a_day_ahead_a_refusal_says_by_whose_clock(server: Server) -> None:
    server.tokens = Tokens(server.ask, AUDIENCE, now=lambda: NOW + 86_400, monotonic=lambda: server.clock)
    found = await server.tokens.who(jwt())
    assert reason(found) == "expired"
    assert "by this replica's clock" in str(found)
    assert server.asked == 0


async def test_streams_that_come_at_once_with_one_token_ask_once(server: Server) -> None:
    server.hold = asyncio.Event()
    streams = [asyncio.create_task(server.tokens.who(jwt(), str(host))) for host in range(50)]
    await asyncio.sleep(0)
    streams[0].cancel()  # one that goes away takes no answer from the others
    await asyncio.sleep(0)
    server.hold.set()

    assert await asyncio.gather(*streams[1:]) == [User("agent")] * 49
    assert server.asked == 1


async def test_one_host_does_not_keep_the_others_from_being_asked_about(server: Server) -> None:
    server.hold = asyncio.Event()
    many = [asyncio.create_task(server.tokens.who(jwt(jti=str(number)), "bad")) for number in range(100)]
    other = asyncio.create_task(server.tokens.who(jwt(), "good"))
    await asyncio.sleep(0.01)
    assert server.asked == OF_ONE_HOST + 1
    server.hold.set()

    assert await other == User("agent")
    found = [reason(each) for each in await asyncio.gather(*many) if isinstance(each, Refusal)]
    assert found == ["too-many"] * (100 - OF_ONE_HOST)
    assert not server.tokens._open


async def test_the_memory_is_bounded_and_has_no_token_in_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "KEPT", 10)
    for number in range(30):
        await server.tokens.who(jwt(jti=str(number)))

    assert len(server.tokens) == 10
    assert jwt(jti="29") not in repr(vars(server.tokens))
    await server.tokens.who(jwt(jti="29"))
    assert server.asked == 30


@pytest.mark.parametrize(
    ("status", "why"),
    [
        ({}, "not-authenticated"),
        ({"authenticated": False, "error": "[invalid bearer token, \x1b]"}, "not-authenticated"),
        ({"authenticated": True}, "audience"),
        ({"authenticated": True, "audiences": ["other"]}, "audience"),
    ],
)
def test_an_answer_that_does_not_say_yes_is_a_no(status: dict[str, object], why: str) -> None:
    found = judged(msgspec.convert({"status": status}, type=_TokenReview).status, AUDIENCE)

    assert reason(found) == why
    assert isinstance(found, Refusal)
    assert found.text.isprintable()


def test_refusals_are_counted_and_one_address_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    clock = 0.0
    refused = Refused(lambda: clock)
    no = Refusal("UNAUTHENTICATED", "no-token", "no token came")
    for port in range(1000):
        refused.note(no, f"ipv4:192.0.2.1:{port}")
    for address in range(2 * KEYS):
        refused.note(no, f"ipv6:%5B2001:db8::{address:x}%5D:1")
    assert len(caplog.records) == KEYS
    assert refused.counts == {"no-token": 1000 + 2 * KEYS}

    caplog.clear()
    clock = PERIOD + 1
    refused.note(no, "ipv4:192.0.2.1:1")
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "times=999" in caplog.records[0].getMessage()
    assert "ipv4:192.0.2.1:1" in caplog.records[1].getMessage()
