"""The connections to the API server: how soon a dead one is detected, which proxy they use, and their certificates.

It extends the REST client of the `kubernetes` package. That package is slow to import, so this module is imported only
when a connection is made.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import aiohttp

from controlplane.source.kubernetes_package import RESTClientObject
from controlplane.source.proxy import proxy_for

# A peer that disappears is detected within 45 s: after IDLE s of silence the kernel probes every INTERVAL s, and data
# or probes that stay unconfirmed for UNANSWERED s end the connection (tcp(7)).
IDLE, INTERVAL, PROBES = 15, 5, 6
UNANSWERED = 30
_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, IDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, INTERVAL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNANSWERED * 1000),
)


class Transport(RESTClientObject):  # type: ignore[misc]
    """`users` counts the running requests. `api` closes a replaced transport when there are none."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.users = 0
        # A kubeconfig's proxy-url has precedence over the environment.
        self.proxy: str | None = configuration.proxy or proxy_for(configuration.host, os.environ) or None

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=make_socket)
        return aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=2**21)


def make_socket(place: Any) -> socket.socket:
    """Makes a socket for one result of getaddrinfo."""
    family, kind, protocol, *_ = place
    made = socket.socket(family, kind, protocol)
    try:
        for option in _OPTIONS:
            made.setsockopt(*option)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
