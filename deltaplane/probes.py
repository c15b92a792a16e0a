"""What a gRPC server that answers health probes takes from strangers: both programs have one on an address of its own.

A probe is a connection of some milliseconds. So the number of connections is bounded, below the files of the process,
and one that does not finish its handshake, makes no call, or stays for long, ends by itself.
"""

from __future__ import annotations

import resource

import grpc.aio

from deltaplane.flags import listening
from deltaplane.sockets import taken

CONNECTIONS = 128


def connections() -> int:
    """How many connections for probes a process may have: an eighth of its files at most."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, files // 8))


def options() -> tuple[tuple[str, int], ...]:
    """Options of the gRPC server."""
    return (
        ("grpc.so_reuseport", 0),
        ("grpc.max_allowed_incoming_connections", connections()),
        ("grpc.server_handshake_timeout_ms", 3_000),
        ("grpc.max_connection_idle_ms", 5_000),
        ("grpc.max_connection_age_ms", 60_000),
        ("grpc.max_connection_age_grace_ms", 5_000),
        ("grpc.max_receive_message_length", 4096),
        ("grpc.max_concurrent_streams", 16),  # of one connection
    )


def bind(server: grpc.aio.Server, listen: str) -> bool:
    """Binds HOST:PORT or unix:///PATH, in plain text; whether that worked."""
    try:
        return not taken(listen) and bool(server.add_insecure_port(listening(listen)))
    except RuntimeError:
        return False
