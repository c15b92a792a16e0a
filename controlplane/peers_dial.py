"""How this replica reaches its peers: over TLS, by their certificates, with its own certificate or token."""

from __future__ import annotations

import grpc
import grpc.aio

from controlplane.peers import OPTIONS
from deltaplane import tls
from deltaplane.token_file import read_token


class Secure:
    """Files are read anew for each connection, the token for each call."""

    def __init__(self, files: tls.Files, server_name: str, token_file: str) -> None:
        self._kept = tls.Kept(files)
        self._server_name, self._token_file = server_name, token_file

    def channel(self, address: str) -> grpc.aio.Channel:
        named = (("grpc.ssl_target_name_override", self._server_name),) if self._server_name else ()
        return grpc.aio.secure_channel(address, tls.channel_credentials(self._kept), options=(*OPTIONS, *named))

    def metadata(self) -> tuple[tuple[str, str], ...]:
        if not self._token_file:
            return ()
        return (("authorization", f"Bearer {read_token(self._token_file, 'peer-token-file')}"),)
