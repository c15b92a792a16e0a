"""Questions of the page to inspection: the same servicer that operators' calls reach, with a browser as the caller."""

from __future__ import annotations

from typing import Any, Never

import grpc

from controlplane.identity.peer import Refusal
from controlplane.page.http import Response, said

_STATUSES = {
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "INVALID_ARGUMENT": 400,
    "RESOURCE_EXHAUSTED": 429,
    "UNAVAILABLE": 503,
}


class Ended(Exception):
    """The servicer ended the call: `status` is a gRPC status's name."""

    def __init__(self, status: str, text: str) -> None:
        super().__init__(text)
        self.status = status


class Caller:
    """As much of a gRPC call as the servicer uses (grpc.aio.ServicerContext)."""

    def __init__(self, client: str) -> None:
        self._client = client

    def peer(self) -> str:
        """As gRPC says it: the address counts, of which one client has a share."""
        if not self._client:
            return "unix:"
        return f"ipv6:[{self._client}]:0" if ":" in self._client else f"ipv4:{self._client}:0"

    async def send_initial_metadata(self, metadata: Any) -> None:
        """Nothing is sent before the answer."""

    async def abort(self, status: grpc.StatusCode, text: str = "") -> Never:
        """Raises `Ended`."""
        raise Ended(status.name, text)


def refused(status: str, text: str) -> Response:
    """The answer over HTTP."""
    return said(_STATUSES.get(status, 500), text)


def of_refusal(refusal: Refusal) -> Response:
    """Likewise, of who may not ask."""
    return refused(refusal.status, refusal.text)
