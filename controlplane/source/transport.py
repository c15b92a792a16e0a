"""The connections to the API server: how soon a dead one is noticed, which proxy they take, and their certificates.

A subclass of what the `kubernetes` package sends by. Imported by `api` where it connects, since that package is slow to
import.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import aiohttp
from kubernetes.aio.client.rest import RESTClientObject

from controlplane.source.proxy import proxy_for

# A peer that is gone without a word is noticed within 45 s: after IDLE s of silence it is asked each INTERVAL s, and
# what it has not confirmed for UNANSWERED s ends the connection, be it data or such a question (tcp(7)).
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
    """`users` are the requests under way; whoever replaces it closes it when there are none."""

    def __init__(self, configuration: Any) -> None:
        super().__init__(configuration)
        self.users = 0
        # A kubeconfig's proxy-url comes before the environment.
        self.proxy: str | None = configuration.proxy or proxy_for(configuration.host, os.environ) or None

    def _create_pool_manager(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(limit=self.maxsize, ssl=self.ssl_context, socket_factory=make_socket)
        return aiohttp.ClientSession(connector=connector, trust_env=False, read_bufsize=2**21)


def make_socket(place: Any) -> socket.socket:
    """For one of getaddrinfo's answers."""
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
