"""Keeps one HTTP address served: binding is tried again every few seconds, or is the end of the process."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable

from deltaplane.flags import host_port
from deltaplane.logs import event
from deltaplane.once import Once
from nodeagent.errors import AgentError
from nodeagent.web.server import Handler, Server, listen_everywhere

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
Make = Callable[[socket.socket], Server]


async def serve(address: str, flag: str, handler: Handler, *, hard_fail: bool, retry: float = RETRY_SECONDS) -> None:
    """Serves HOST:PORT with this handler, as `serve_with` does."""
    await serve_with(address, flag, lambda opened: Server(opened, handler), hard_fail=hard_fail, retry=retry)


async def serve_with(address: str, flag: str, make: Make, *, hard_fail: bool, retry: float = RETRY_SECONDS) -> None:
    """Serves HOST:PORT until cancelled; `flag` is the name to give in messages. `make`: the server of an open socket.

    With `hard_fail` (bindAddressHardFail) an address that cannot be bound raises `AgentError`; otherwise it is said
    once and tried again every `retry` seconds.
    """
    server = await _started(address, flag, make, hard_fail=hard_fail, retry=retry)
    event(log, logging.INFO, "listening", flag=flag, address=address)
    try:
        await asyncio.Event().wait()
    finally:
        server.close()


async def _started(address: str, flag: str, make: Make, *, hard_fail: bool, retry: float) -> Server:
    host, port = host_port(address)
    said = Once[str]()
    while True:
        try:
            server = make(listen_everywhere(host, port))
        except OSError as error:
            reason = os.strerror(error.errno) if error.errno else str(error)
            if hard_fail:
                raise AgentError(f"--{flag}={address}: {reason}; free the address or name another") from error
            if said.note(address, reason):
                event(log, logging.ERROR, "cannot listen; retrying", flag=flag, address=address, reason=reason)
            await asyncio.sleep(retry)
        else:
            await server.start()
            return server
