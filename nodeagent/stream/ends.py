"""How streams end, in few words to count by. Pure; called by `call` and `client`."""

from __future__ import annotations

import grpc

FILES = "files"  # this agent's own certificate, key, CA bundle or token cannot be used
GIVEN_UP = "given-up"  # this agent ended it: the log says why
DEFECT = "defect"
_NOT_BELIEVED = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed")  # gRPC's words
_NO_TLS = ("Ssl handshake failed", "SSL_ERROR")


def reason_of(code: grpc.StatusCode, details: str) -> str:
    """A status as one word. gRPC says UNAVAILABLE too where a server is not believed."""
    if code is grpc.StatusCode.UNAVAILABLE:
        if any(words in details for words in _NOT_BELIEVED):
            return "server-not-believed"
        if any(words in details for words in _NO_TLS):
            return "tls"
    return code.name.lower().replace("_", "-")
