"""Who may ask this replica about itself: rights of Kubernetes (SubjectAccessReview) on resources of deltaplane.dev.

The resources are words for rights: the API server has no such objects. Called by `door`. What was answered is
remembered for a short while, and a bounded number of times.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from msgspec import Struct

from controlplane.identity.peer import Identity, Refusal, User
from controlplane.identity.tokens import Unanswered

GROUP = "deltaplane.dev"
KEPT = 1000
FRESH = 30.0  # seconds


class Right(Struct, frozen=True):
    """A verb on a resource of deltaplane.dev."""

    verb: str
    resource: str

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}.{GROUP}"


INSPECTION = "deltaplane.v1.InspectionService"
READ, LIST, FOLLOW = (Right(verb, "inspections") for verb in ("get", "list", "watch"))
NEEDED = {
    f"/{INSPECTION}/GetStatus": READ,
    f"/{INSPECTION}/GetNode": READ,
    f"/{INSPECTION}/GetObject": READ,
    f"/{INSPECTION}/ResolveForNode": READ,
    f"/{INSPECTION}/Explain": READ,
    f"/{INSPECTION}/Diff": READ,
    f"/{INSPECTION}/ListNodes": LIST,
    f"/{INSPECTION}/ListObjects": LIST,
    f"/{INSPECTION}/Dump": LIST,
    f"/{INSPECTION}/TailCommits": FOLLOW,
    f"/{INSPECTION}/TailChanges": FOLLOW,
    f"/{INSPECTION}/WaitApplied": Right("create", "waits"),
    f"/{INSPECTION}/ForceResync": Right("create", "resyncs"),
    f"/{INSPECTION}/ReleaseBrake": Right("update", "brakes"),
    "/grpc.health.v1.Health/Check": READ,
    "/grpc.health.v1.Health/List": READ,
    "/grpc.health.v1.Health/Watch": READ,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": READ,
}
ANYTHING = Right("*", "*")  # for a method that is not in the table


class Rights:
    """`ask` does one SubjectAccessReview. Raises `Unanswered`."""

    def __init__(
        self, ask: Callable[[User, Right], Awaitable[bool]], monotonic: Callable[[], float] = time.monotonic
    ) -> None:
        self._ask, self._monotonic = ask, monotonic
        self._kept: OrderedDict[tuple[object, ...], tuple[bool, float]] = OrderedDict()

    async def missing(self, user: User, right: Right) -> Refusal | None:
        """Why this user may not; None: it may."""
        key = (user.name, user.uid, user.groups, tuple(sorted(user.extra.items())), right)
        allowed, until = self._kept.get(key, (False, 0.0))
        if self._monotonic() >= until:
            try:
                allowed = await self._ask(user, right)
            except Unanswered as error:
                return Refusal("UNAVAILABLE", "unanswered", f"what {user.name} may do cannot be asked: {error}")
            self._keep(key, allowed)
        return None if allowed else denied(user.name, right)

    def _keep(self, key: tuple[object, ...], allowed: bool) -> None:
        self._kept[key] = (allowed, self._monotonic() + FRESH)
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)


def without_asking(identity: Identity, right: Right) -> Refusal | User | None:
    """Why this peer may not; None: it may; a user: somebody has to be asked. Pure."""
    if identity.trusted or identity.operator or identity.replica:
        return None
    return identity.user or denied(identity.name, right)


def denied(name: str, right: Right) -> Refusal:
    """It lacks this right."""
    return Refusal("PERMISSION_DENIED", "right", f"{name} may not {right}: grant it by a role")
