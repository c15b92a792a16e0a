"""Calls of WaitApplied at a replica in this process, and what happens to its nodes meanwhile."""

from __future__ import annotations

import asyncio

from controlplane.facts import Fact
from controlplane.session import Session
from deltaplane.model import Conditions
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.views import key_message
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Asked, ack

SERVICE = inspection.ObjectVersion(key=key_message(objects.service_key(1)))
READY = int(Conditions.READY | Conditions.SERVING)
LEAVING = int(Conditions.SERVING | Conditions.TERMINATING)


class Call:
    """One call of WaitApplied, followed to its end."""

    def __init__(self, asked: Asked, request: inspection.WaitAppliedRequest) -> None:
        self._calls = asked.inspection.WaitApplied(request, asked.context)
        self.messages: list[inspection.WaitAppliedResponse] = []
        self._asked = asked
        self.task = asyncio.ensure_future(self._follow())

    async def _follow(self) -> inspection.WaitAppliedResponse:
        async for message in self._calls:
            self.messages.append(message)
        return self.messages[-1]

    async def looked(self) -> None:
        """Until the waiters have looked at what happened so far."""
        for _ in range(10):  # the call begins
            await asyncio.sleep(0)
        self._asked.waits.look()
        for _ in range(10):  # and takes what was found
            await asyncio.sleep(0)

    async def end(self) -> inspection.WaitAppliedResponse:
        async with asyncio.timeout(20):
            return await self.task


def wait(asked: Asked, seconds: float = 10.0, **fields: object) -> Call:
    return Call(asked, inspection.WaitAppliedRequest(timeout_seconds=seconds, **fields))  # type: ignore[arg-type]


def change(asked: Asked, number: int = 1, version: int = 1, resource_version: str = "") -> int:
    asked.cluster.update([Fact(objects.service_key(number), objects.service(number, version), resource_version)])
    return asked.cluster.log.head


def applied(asked: Asked, session: Session, rev: int | None = None, **fields: object) -> None:
    """The node's Ack for what was sent up to `rev`, the head if that is not said."""
    while session.next_message(0.0) is not None:
        pass
    at = asked.cluster.log.head if rev is None else rev
    ack(session, received_rev=at, applied_rev=at, **fields)
    asked.waits.moved()


def reasons(answer: inspection.WaitAppliedResponse) -> dict[str, str]:
    return {
        one.node_name: inspection.LackReason.Name(one.reason).removeprefix("LACK_REASON_") for one in answer.lacking
    }
