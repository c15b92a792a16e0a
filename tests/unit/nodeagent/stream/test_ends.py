"""nodeagent.stream.ends: how streams end, in words to count by."""

from __future__ import annotations

import grpc
import pytest

from nodeagent.stream.ends import reason_of

CODE = grpc.StatusCode


@pytest.mark.parametrize(
    ("code", "details", "reason"),
    [
        (CODE.UNAVAILABLE, "last error: ... Hostname Verification Check failed.", "server-not-believed"),
        (CODE.UNAVAILABLE, "SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED", "server-not-believed"),
        (CODE.UNAVAILABLE, "Ssl handshake failed (TSI_PROTOCOL_FAILURE): SSL_ERROR_SSL", "tls"),
        (CODE.UNAVAILABLE, "this replica stops", "unavailable"),
        (CODE.PERMISSION_DENIED, "this is node CERTIFICATE_VERIFY_FAILED", "permission-denied"),
        (CODE.UNAUTHENTICATED, "", "unauthenticated"),
    ],
)
def test_a_server_that_is_not_believed_counts_apart(code: grpc.StatusCode, details: str, reason: str) -> None:
    assert reason_of(code, details) == reason
