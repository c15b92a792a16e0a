"""Lets nobody call anything on the agents' port without the right to it, but for streams, which `server` admits.

A gRPC interceptor. Handlers of both forms are kept in theirs: those that yield answers, and those that write them.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

Admit = Callable[[str, grpc.aio.ServicerContext[Any, Any], Any], Awaitable[None]]


class Guard(grpc.aio.ServerInterceptor):
    """`admit` is given method, call and request (an iterator, where there are several), and ends calls that may not be.
    `free`: what methods begin with that it is not asked about."""

    def __init__(self, admit: Admit, free: str) -> None:
        self._admit, self._free = admit, free

    async def intercept_service(self, continuation: Any, handler_call_details: grpc.HandlerCallDetails) -> Any:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        return handler if handler is None or method.startswith(self._free) else guarded(handler, method, self._admit)


def guarded(handler: Any, method: str, admit: Admit) -> Any:
    """The handler, which asks `admit` before it does anything."""
    form = "_".join(
        "stream" if streams else "unary" for streams in (handler.request_streaming, handler.response_streaming)
    )
    made = getattr(grpc, f"{form}_rpc_method_handler")
    inner = _after(getattr(handler, form), method, admit)
    return made(inner, handler.request_deserializer, handler.response_serializer)


def _after(inner: Callable[..., Any], method: str, admit: Admit) -> Callable[..., Any]:
    async def yields(request: Any, context: Any) -> AsyncIterator[Any]:
        await admit(method, context, request)
        async with aclosing(inner(request, context)) as answers:
            async for answer in answers:
                yield answer

    async def writes(request: Any, context: Any) -> Any:
        await admit(method, context, request)
        return await inner(request, context)

    return yields if inspect.isasyncgenfunction(inner) else writes
