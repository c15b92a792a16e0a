"""Who may speak to this replica. Asked by `server` before anything of a stream exists."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import suppress
from typing import Any

import grpc
import grpc.aio

from controlplane.identity import drains, peer
from controlplane.identity.flags import Security
from controlplane.identity.peer import Facts, Identity, Refusal, User, Way
from controlplane.identity.refused import Refused, host_of
from controlplane.identity.rights import ANYTHING, NEEDED, Right, Rights, denied, without_asking
from controlplane.identity.tokens import Tokens

FIRST_MESSAGE = 5.0  # seconds that one who is refused has for it
Context = grpc.aio.ServicerContext[Any, Any]


class Door:
    """`tokens` and `rights`: None where there is no API server to ask."""

    def __init__(
        self, security: Security | None = None, tokens: Tokens | None = None, rights: Rights | None = None
    ) -> None:
        self._rights = rights
        self._security = security or Security()
        self._tokens = tokens
        self.refused = Refused()

    async def agent(self, context: Context, requests: AsyncIterator[Any]) -> Identity:
        """Who wants to stream. Ends the call where it may not, once its first message has arrived: a stream that ends
        while it is written to ends as broken for gRPC's client, which does not learn why."""
        found = await self._who(context)
        if isinstance(found, Identity):
            found = peer.agent(found, self._security.agent_account) or found
        if isinstance(found, Refusal):
            with suppress(TimeoutError, StopAsyncIteration):
                async with asyncio.timeout(FIRST_MESSAGE):
                    await anext(requests)
        return await self._or_ends(found, context)

    async def inspector(self, method: str, context: Context, request: object = None) -> None:
        """Ends the call of one who may not make it."""
        found = await self._who(context)
        if isinstance(found, Identity) and not drains.may(found, self._security.agent_account, method, request):
            found = await self._lacking(found, NEEDED.get(method, ANYTHING)) or found
        await self._or_ends(found, context)

    async def person(self, method: str, token: str, host: str) -> Refusal | None:
        """Why whoever shows this token on the page may not ask this; None: it may. `host`: the browser's address."""
        found = peer.known(Facts(self._security.way, peer.TLS), self._security.trust_domain)
        found = found or await self._of_token(token, host)
        if isinstance(found, Identity):
            found = await self._lacking(found, NEEDED.get(method, ANYTHING)) or found
        if isinstance(found, Identity):
            return None
        self.refused.note(found, host)
        return found

    async def _lacking(self, identity: Identity, right: Right) -> Refusal | None:
        user = without_asking(identity, right)
        if not isinstance(user, User):
            return user
        return denied(user.name, right) if self._rights is None else await self._rights.missing(user, right)

    def another(self, identity: Identity, node_name: str, address: str) -> Refusal | None:
        """Why this peer may not introduce itself by this name; None: it may."""
        refusal = peer.speaks_for(identity, node_name)
        if refusal is not None:
            self.refused.note(refusal, address)
        return refusal

    async def _who(self, context: Context) -> Identity | Refusal:
        facts = facts_of(self._security.way, context)
        if (found := peer.known(facts, self._security.trust_domain)) is not None:
            return found
        return await self._of_token(facts.token, host_of(context.peer()))

    async def _of_token(self, token: str, host: str) -> Identity | Refusal:
        if self._tokens is None:
            return Refusal(
                "UNAUTHENTICATED", "certificate", "the certificate names no node, and tokens are not asked for"
            )
        user = await self._tokens.who(token, host)
        return user if isinstance(user, Refusal) else peer.of_user(user, self._security.peer_account)

    async def _or_ends(self, found: Identity | Refusal, context: Context) -> Identity:
        if isinstance(found, Refusal):
            await self.refused.end(found, context)
        return found


def facts_of(way: Way, context: Context) -> Facts:
    """What gRPC knows of a call."""
    if way is not Way.TLS:
        return Facts(way)
    proven: Mapping[str, Iterable[bytes]] = context.auth_context() or {}
    version = b"".join(proven.get("ssl_tls_version", ())).decode("ascii", "replace")
    uris = tuple(uri.decode("utf-8", "replace") for uri in proven.get("peer_uri", ()))
    resumed = b"true" in proven.get("ssl_session_reused", ())
    return Facts(way, version, uris, _token(context.invocation_metadata() or ()), resumed)


def _token(metadata: Iterable[Any]) -> str:
    """The bearer token; none where there are several."""
    said = [value for key, value in metadata if key == "authorization"]
    kind, _, token = said[0].partition(" ") if len(said) == 1 and isinstance(said[0], str) else ("", "", "")
    return token.strip() if kind.lower() == "bearer" else ""
