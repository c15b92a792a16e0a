"""Whose a token is: the API server is asked (TokenReview), and what it says is remembered for a while.

Called by `door`. What is remembered is bounded, keyed by a hash and never by the token itself, and never for longer
than the token lives. While the API server does not answer, what it said of a token before goes on counting, or its
restart would keep every agent away that connects anew.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import msgspec

from controlplane.identity.peer import Refusal, User
from deltaplane.shares import Shares

MOST_CHARACTERS = 16 * 1024
KEPT = 20_000  # tokens that are remembered
FRESH, REFUSED = 120.0, 10.0  # seconds until the API server is asked again
LATE = 60.0  # seconds that the clocks of this machine and the API server's may differ
AT_ONCE, OF_ONE_HOST = 32, 8  # questions
WAIT = 20.0  # seconds for an answer, with those before it
Found = User | Refusal


class Unanswered(Exception):
    """The API server could not be asked; the text says why."""


class Claims(msgspec.Struct, frozen=True):
    """What a token says of itself; true only once the API server knows it."""

    aud: str | list[str] = ""
    exp: float = 0.0  # Unix seconds
    iat: float = 0.0  # when it was made, likewise; 0: it does not say


class _Kept(msgspec.Struct, frozen=True):
    found: Found
    fresh: float  # until then nobody is asked; monotonic seconds
    end: float  # of the token


class Tokens:
    """`ask` does one TokenReview: the user, or why there is none. Raises `Unanswered`."""

    def __init__(
        self,
        ask: Callable[[str], Awaitable[Found]],
        audience: str,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask, self._audience = ask, audience
        self._now, self._monotonic = now, monotonic
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # those used last at the end
        self._asked: dict[bytes, asyncio.Task[Found]] = {}
        self._open = Shares[str]()
        self._turn = asyncio.Semaphore(AT_ONCE)

    def __len__(self) -> int:
        return len(self._kept)

    async def who(self, token: str, host: str = "") -> Found:
        """Whose it is. `host`: whoever asks, who has only so many questions open at once."""
        if not token:
            return Refusal(
                "UNAUTHENTICATED", "no-token", "no token came with the call, and no certificate names a node"
            )
        claims = read(token)
        if (wrong := mistaken(claims, self._audience, self._now())) is not None:
            return wrong
        key = hashlib.sha256(token.encode()).digest()
        kept = self._kept.get(key)
        if kept is not None and self._monotonic() < kept.fresh:
            self._kept.move_to_end(key)
            return kept.found
        if self._open.held(host) >= OF_ONE_HOST:
            return Refusal(
                "RESOURCE_EXHAUSTED", "too-many", f"{OF_ONE_HOST} other tokens from {host} are being checked"
            )
        self._open.enter(host)
        try:
            return await self._answer(key, token, claims)
        finally:
            self._open.leave(host)

    async def _answer(self, key: bytes, token: str, claims: Claims | None) -> Found:
        """Streams that come at once with one token ask once."""
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._learn(key, token, claims))
            task.add_done_callback(lambda _: self._asked.pop(key, None))
        try:
            async with asyncio.timeout(WAIT):
                return await asyncio.shield(task)
        except TimeoutError:
            return Refusal("UNAVAILABLE", "unanswered", "the API server has not said yet whose the token is")

    async def _learn(self, key: bytes, token: str, claims: Claims | None) -> Found:
        try:
            async with self._turn:
                found = await self._ask(token)
        except Unanswered as error:
            kept = self._kept.get(key)
            if kept is not None and isinstance(kept.found, User) and self._monotonic() < kept.end:
                return kept.found
            return Refusal("UNAVAILABLE", "unanswered", f"whose the token is cannot be asked: {error}")
        self._keep(key, found, claims)
        return found

    def _keep(self, key: bytes, found: Found, claims: Claims | None) -> None:
        now = self._monotonic()
        end = now + (_left(claims, self._now()) if claims is not None else 0.0)
        fresh = min(now + FRESH, end) if isinstance(found, User) else now + REFUSED
        self._kept[key] = _Kept(found, fresh, end)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def _left(claims: Claims, now: float) -> float:
    """Seconds that a token has left: never more than it was made for, whatever this machine's clock says."""
    return min(claims.exp - now, claims.exp - claims.iat) if claims.iat else claims.exp - now


def read(token: str) -> Claims | None:
    """What a token (a JWT, RFC 7519) says of itself, unchecked; None: it is none."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > MOST_CHARACTERS:
        return None
    try:
        body = base64.b64decode(parts[1] + "=" * (-len(parts[1]) % 4), altchars=b"-_", validate=True)
        return msgspec.json.decode(body, type=Claims)
    except (ValueError, RecursionError):  # binascii's and msgspec's are ValueErrors
        return None


def mistaken(claims: Claims | None, audience: str, now: float) -> Refusal | None:
    """Why nobody need be asked about such a token at this time (Unix seconds); None: somebody must."""
    if claims is None:
        return Refusal("UNAUTHENTICATED", "no-jwt", "the token is no ServiceAccount token")
    meant = [claims.aud] if isinstance(claims.aud, str) else claims.aud
    if audience not in meant:
        text = f"the token is not meant for {audience}: project it with this audience"
        return Refusal("UNAUTHENTICATED", "audience", text)
    if claims.exp + LATE < now:
        return Refusal(
            "UNAUTHENTICATED", "expired", f"the token ended {now - claims.exp:.0f} s ago by this replica's clock"
        )
    return None
