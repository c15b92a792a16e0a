"""What a status of gRPC says to whoever asked, and what it tells a script."""

from __future__ import annotations

from typing import Any

import grpc
import pytest

from operatorcli.ask import _broken_off, meaning
from operatorcli.exits import Exit

Code = grpc.StatusCode


class Error:
    """As much of a `grpc.RpcError` as is looked at."""

    def __init__(self, code: Code, details: str | None = "why") -> None:
        self._code, self._details = code, details

    def code(self) -> Code:
        return self._code

    def details(self) -> str | None:
        return self._details


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [
        (Code.UNAVAILABLE, Exit.UNREACHED),
        (Code.DEADLINE_EXCEEDED, Exit.UNREACHED),
        (Code.UNAUTHENTICATED, Exit.FORBIDDEN),
        (Code.PERMISSION_DENIED, Exit.FORBIDDEN),
        (Code.NOT_FOUND, Exit.NO),
        (Code.INVALID_ARGUMENT, Exit.USAGE),
        (Code.UNIMPLEMENTED, Exit.FAILED),
        (Code.RESOURCE_EXHAUSTED, Exit.FAILED),
        (Code.INTERNAL, Exit.FAILED),
        (Code.UNKNOWN, Exit.FAILED),
    ],
)
def test_each_status_has_an_exit_code_and_advice(code: Code, exit_code: Exit) -> None:
    failed = meaning(Error(code), "GetStatus", "192.0.2.10:50051", 10.0)

    assert failed.code is exit_code
    assert failed.text
    assert failed.advice


def test_a_text_with_braces_or_lines_of_its_own_is_said_as_one_line() -> None:
    odd: Any = Error(Code.INTERNAL, "a {b}\n  c")

    assert meaning(odd, "Dump", "here", 1.0).text == "the replica at here: INTERNAL: a {b} c"
    assert meaning(Error(Code.INTERNAL, None), "Dump", "here", 1.0).text == "the replica at here: INTERNAL: "


@pytest.mark.parametrize(
    "said", ["Ssl handshake failed: CERTIFICATE_VERIFY_FAILED", "Peer name 192.0.2.1 is not in peer certificate"]
)
def test_a_certificate_that_is_not_believed_is_told_from_an_address_where_nobody_is(said: str) -> None:
    failed = meaning(Error(Code.UNAVAILABLE, said), "GetStatus", "192.0.2.10:50051", 10.0)

    assert "no TLS with the replica" in failed.text
    assert "--ca-file" in failed.advice


def test_a_replica_that_goes_away_while_it_is_listened_to_is_not_one_that_cannot_be_reached() -> None:
    failed = _broken_off("192.0.2.10:50051", "Socket closed")

    assert failed.code is Exit.UNREACHED
    assert failed.text == "the replica at 192.0.2.10:50051 broke off its answer: Socket closed"
    assert "any other replica" in failed.advice
