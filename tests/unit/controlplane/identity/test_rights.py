"""controlplane.identity.rights and guard: what an operator may ask, and that nothing is asked of nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest

from controlplane.identity.guard import guarded
from controlplane.identity.peer import Identity, Refusal, User
from controlplane.identity.rights import ANYTHING, FRESH, INSPECTION, KEPT, NEEDED, READ, Right, Rights, without_asking
from controlplane.identity.tokens import Unanswered
from deltaplane.v1 import inspection_pb2

ANN = User("ann", groups=("staff",))


class Server:
    def __init__(self) -> None:
        self.asked: list[tuple[User, Right]] = []
        self.says: bool | None = True
        self.clock = 0.0
        self.rights = Rights(self.ask, lambda: self.clock)

    async def ask(self, user: User, right: Right) -> bool:
        self.asked.append((user, right))
        if self.says is None:
            raise Unanswered("away")
        return self.says


def test_every_method_of_inspection_says_which_right_it_needs() -> None:
    (service,) = inspection_pb2.DESCRIPTOR.services_by_name.values()

    assert {f"/{INSPECTION}/{method.name}" for method in service.methods} <= set(NEEDED)
    changing = {"ReleaseBrake": "brakes", "ForceResync": "resyncs", "WaitApplied": "waits"}
    for name, right in NEEDED.items():
        assert right.resource == changing.get(name.rpartition("/")[2], "inspections"), name


@pytest.mark.parametrize("right", [*NEEDED.values(), ANYTHING])
def test_a_node_may_ask_nothing_and_an_operators_certificate_everything(right: Right) -> None:
    assert isinstance(without_asking(Identity("n1", node="n1"), right), Refusal)
    assert without_asking(Identity("me", operator=True), right) is None
    assert without_asking(Identity("anybody", trusted=True), right) is None
    assert without_asking(Identity("ann", user=ANN), right) == ANN


async def test_an_answer_is_remembered_for_a_short_while_for_exactly_whom_and_what_it_was_for() -> None:
    server = Server()
    for _ in range(3):
        assert await server.rights.missing(ANN, READ) is None
    assert len(server.asked) == 1

    server.says = False
    others = [
        (User("ann"), READ),
        (User("ann", groups=("staff",), extra={"x": ("y",)}), READ),
        (ANN, Right("list", "x")),
    ]
    for user, right in others:
        refusal = await server.rights.missing(user, right)
        assert refusal is not None
        assert refusal.status == "PERMISSION_DENIED"
    assert server.asked[1:] == others

    server.clock = FRESH + 1
    assert await server.rights.missing(ANN, READ) is not None


async def test_what_cannot_be_asked_is_not_allowed() -> None:
    server = Server()
    server.says = None
    refusal = await server.rights.missing(ANN, READ)

    assert refusal is not None
    assert refusal.status == "UNAVAILABLE"


async def test_the_memory_is_bounded() -> None:
    server = Server()
    for number in range(KEPT + 50):
        await server.rights.missing(User(str(number)), READ)

    assert len(server.rights._kept) == KEPT


class Denied(Exception):
    pass


async def yields(request: Any, context: Any) -> AsyncIterator[int]:
    context.append("began")
    try:
        for number in range(10):
            yield number
    finally:
        context.append("ended")


async def writes(request: Any, context: Any) -> int:
    context.append("began")
    return 1


async def refuses(method: str, context: Any, request: Any) -> None:
    raise Denied


async def admits(method: str, context: Any, request: Any) -> None:
    await asyncio.sleep(0)


async def test_a_handler_that_is_guarded_begins_nothing_for_whom_may_not() -> None:
    calls: list[str] = []
    streams = guarded(grpc.unary_stream_rpc_method_handler(yields), "/a/b", refuses)
    one = guarded(grpc.unary_unary_rpc_method_handler(writes), "/a/b", refuses)

    with pytest.raises(Denied):
        await anext(streams.unary_stream(None, calls))
    with pytest.raises(Denied):
        await one.unary_unary(None, calls)
    assert calls == []


async def test_a_guarded_stream_that_is_left_ends_at_once() -> None:
    calls: list[str] = []
    handler = guarded(grpc.unary_stream_rpc_method_handler(yields), "/a/b", admits)
    answers = handler.unary_stream(None, calls)
    assert await anext(answers) == 0
    await answers.aclose()

    assert calls == ["began", "ended"]
