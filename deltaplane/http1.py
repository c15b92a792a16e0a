"""What is alike in the small HTTP/1.1 servers of both programs: the head of a request, and that of an answer.

One request for a connection; bodies, deadlines and shares are the servers' own.
"""

from __future__ import annotations

import asyncio
import http
from collections.abc import Iterable

TEXT, JSON, HTML = "text/plain; charset=utf-8", "application/json", "text/html; charset=utf-8"


async def read_head(reader: asyncio.StreamReader) -> bytes:
    """Request line and headers; empty for a head beyond the reader's limit. Raises OSError, IncompleteReadError."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError:
        return b""


def request_line(head: bytes) -> tuple[str, str]:
    """Method and target; ("", "") for what is no HTTP/1 request."""
    parts = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
        return "", ""
    return parts[0], parts[1]


def header(head: bytes, name: str) -> str:
    """The values of this header, joined by commas as RFC 9110 has it; empty: it is not there. `name`: in lower case."""
    found = []
    for line in head.decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(":")
        if key.strip().lower() == name:
            found.append(value.strip())
    return ", ".join(found)


def answer_head(status: int, headers: Iterable[tuple[str, str]]) -> bytes:
    """Status line and headers of an answer after which the connection ends."""
    text = "".join(f"{name}: {value}\r\n" for name, value in (*headers, ("Connection", "close")))
    return f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}\r\n{text}\r\n".encode("latin-1")
