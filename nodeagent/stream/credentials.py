"""How a replica is dialled: what it must show, and what this agent shows it. Read anew for each stream.

Used by `call`. Files that change count from the next stream on; one that is open stays. `waiting` looks at them between
two attempts.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import grpc
import grpc.aio

from deltaplane import tls
from deltaplane.certificates import Unusable
from deltaplane.flags import is_socket
from deltaplane.logs import event
from deltaplane.token_file import read_token
from nodeagent.config.security import FILES, Security
from nodeagent.stream.waiting import Shown

log = logging.getLogger(__name__)

Options = Sequence[tuple[str, int | str]]
Metadata = tuple[tuple[str, str], ...]


class Dialler(Protocol):
    """What a stream asks for."""

    def channel(self, server: str, options: Options, name: str = "") -> grpc.aio.Channel:
        """To HOST:PORT or unix:///PATH. `name`: what the certificate must say, where that is not HOST.

        Raises `deltaplane.certificates.Unusable`.
        """

    def metadata(self, server: str) -> Metadata:
        """What goes with the call. Raises `deltaplane.certificates.Unusable`."""

    def shown(self) -> Shown:
        """What the next stream would use."""


class Plain:
    """Plain text, and the agent shows nothing."""

    def channel(self, server: str, options: Options, name: str = "") -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(server, options=options)

    def metadata(self, server: str) -> Metadata:
        return ()

    def shown(self) -> Shown:
        return {}


class Secure:
    """TLS, but for unix sockets. A replica is believed whose certificate a CA of the bundle signed for its name."""

    def __init__(self, security: Security) -> None:
        self.kept = tls.Kept(security.files)
        self._server_name = security.server_name
        self._token_file = security.token_file

    def channel(self, server: str, options: Options, name: str = "") -> grpc.aio.Channel:
        if is_socket(server):
            return grpc.aio.insecure_channel(server, options=options)
        expected = self._server_name or name
        named = (("grpc.ssl_target_name_override", expected),) if expected else ()
        return grpc.aio.secure_channel(server, tls.channel_credentials(self.kept), options=(*options, *named))

    def metadata(self, server: str) -> Metadata:
        """The token, where there is one; never in plain text."""
        if is_socket(server) or not self._token_file:
            return ()
        return (("authorization", f"Bearer {self._token()}"),)

    def shown(self) -> Shown:
        try:
            material = self.kept.get()
            token = self._token() if self._token_file else ""
        except Unusable:
            return {}
        contents = (token, material.authorities, material.certificate, material.key)
        return dict(zip(FILES, contents, strict=True))

    def _token(self) -> str:
        return read_token(self._token_file, "token-file")


def dialler(security: Security, servers: Sequence[str]) -> Dialler:
    """As the flags say. Plain text is told once."""
    if not security.insecure:
        return Secure(security)
    event(log, logging.INFO, "plain text: whoever answers there is believed", servers=",".join(servers))
    return Plain()
