"""Ports for programs that are told where to listen: nobody else takes one, also while nobody listens there.

A port that the kernel gives away itself may go to any other program's socket before the one that it was asked for
opens it, and again whenever that program restarts. Called by tests.
"""

from __future__ import annotations

import secrets
import socket

_RANGE = range(20_000, 32_000)  # below what the kernel chooses from (net.ipv4.ip_local_port_range)


def free_port(host: str = "127.0.0.1") -> int:
    """Where nobody listens. It is this process's until that ends, which an abstract unix socket tells the others."""
    while True:
        port = secrets.choice(_RANGE)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mark:
            try:
                mark.bind(f"\0deltaplane-port-{port}")
                socket.create_server((host, port), family=_family(host)).close()
            except OSError:
                continue
            mark.detach()
            return port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
