"""Questions to the API server about tokens and rights (authentication.k8s.io, authorization.k8s.io).

Over connections of its own, with the control plane's own credentials. Called by `tokens` and `rights`.
"""

from __future__ import annotations

from typing import Any, TypeVar

import aiohttp
import msgspec

from controlplane.errors import SourceError
from controlplane.identity.peer import Refusal, User
from controlplane.identity.rights import GROUP, Right
from controlplane.identity.tokens import Found, Unanswered
from controlplane.source.connection import Connection
from controlplane.source.resource import ApiError, Resource
from deltaplane.names import shown

TOKENS = Resource("authentication.k8s.io", "v1", "tokenreviews")
LIMIT = aiohttp.ClientTimeout(total=8)
RIGHTS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews")
T = TypeVar("T")


class _User(msgspec.Struct):
    username: str = ""
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class _TokenStatus(msgspec.Struct):
    authenticated: bool = False
    error: str = ""
    audiences: tuple[str, ...] = ()
    user: _User = msgspec.field(default_factory=_User)


class _TokenReview(msgspec.Struct):
    status: _TokenStatus = msgspec.field(default_factory=_TokenStatus)


class _RightStatus(msgspec.Struct):
    allowed: bool = False
    denied: bool = False


class _RightReview(msgspec.Struct):
    status: _RightStatus = msgspec.field(default_factory=_RightStatus)


class Reviews:
    """Connects when it is first asked. `requests` of the source are counted with its."""

    def __init__(self, kubeconfig: str | None, audience: str, requests: Any) -> None:
        self._audience = audience
        self._connection = Connection(kubeconfig, requests)

    async def token(self, token: str) -> Found:
        """Whose it is. Raises `Unanswered`."""
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [self._audience]},
        }
        return judged((await self.ask(TOKENS, review, _TokenReview)).status, self._audience)

    async def right(self, user: User, right: Right) -> bool:
        """Whether this user has it. Raises `Unanswered`."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": user.name,
                "uid": user.uid,
                "groups": list(user.groups),
                "extra": {key: list(values) for key, values in user.extra.items()},
                "resourceAttributes": {"group": GROUP, "resource": right.resource, "verb": right.verb},
            },
        }
        status = (await self.ask(RIGHTS, review, _RightReview)).status
        return status.allowed and not status.denied

    async def ask(self, resource: Resource, review: dict[str, Any], kind: type[T]) -> T:
        """Creates the review, and gives its answer. Raises `Unanswered`."""
        try:
            api = await self._connection.api()
            return msgspec.json.decode(await api.post(resource, review, LIMIT), type=kind)
        except (SourceError, msgspec.MsgspecError) as error:
            raise Unanswered(_harmless(error)) from error

    async def close(self) -> None:
        """Ends the connections."""
        await self._connection.close()


def _harmless(error: Exception) -> str:
    return str(error) if isinstance(error, ApiError | SourceError) else "its answer cannot be read"


def judged(status: _TokenStatus, audience: str) -> Found:
    """What the answer says."""
    if not status.authenticated:
        why = f": {shown(status.error)}" if status.error else ""
        return Refusal("UNAUTHENTICATED", "not-authenticated", f"the API server does not accept the token{why}")
    if audience not in status.audiences:
        return Refusal("UNAUTHENTICATED", "audience", f"the API server does not say that the token is for {audience}")
    user = status.user
    return User(user.username, user.uid, user.groups, user.extra)
