"""`python -m bench.userspace`: what it costs that userspace mode carries every byte itself, beside nftables mode.

One node, a client pod and two server pods on it, each end a process of its own. The agent is this process, so that its
processor time is the proxy's. Root on Linux, and nothing else of weight on the machine. Prints; writes nothing.
"""

from __future__ import annotations

import multiprocessing
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from statistics import median

from bench import machine
from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, ServiceForwarding, Target, Verdict
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.api import Dataplane
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings as Nftables
from nodeagent.dataplane.userspace.cleanup import cleanup
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.settings import Settings as Userspace
from tools.lab import fabric
from tools.lab.fabric import CLUSTER_CIDRS, Node, Pod
from tools.lab.netns import Namespace
from tools.lab.rules import delete_tables

VIP, PORT = "172.30.0.1", 8080
TOTAL = 1 << 30  # bytes of the transfer
CONNECTIONS, QUESTIONS = 2000, 3000
_SPAWN = multiprocessing.get_context("spawn")
_CHUNK = 1 << 18


def serve(space: str, address: str) -> None:
    """Answers the first byte of a connection: b"?" each with one byte, b"!" by taking everything."""
    with Namespace(space).entered():
        listener = socket.create_server((address, PORT), backlog=1024)
    buffer = bytearray(_CHUNK)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection:
            while size := connection.recv_into(buffer):
                if buffer[0] == ord("?"):
                    connection.send(buffer[:size])
            connection.send(b".")


def ask(space: str, address: str, what: str) -> float:
    """Runs one measurement from a namespace: bytes per second, connections per second, or seconds per question."""
    with Namespace(space).entered():
        return {"bytes": _bytes, "connections": _connections, "questions": _questions}[what](address)


def _bytes(address: str) -> float:
    piece, began = b"!" * _CHUNK, time.perf_counter()
    with socket.create_connection((address, PORT)) as connection:
        for _ in range(TOTAL // _CHUNK):
            connection.sendall(piece)
        connection.shutdown(socket.SHUT_WR)
        connection.recv(1)
    return TOTAL / (time.perf_counter() - began)


def _connections(address: str) -> float:
    began = time.perf_counter()
    for _ in range(CONNECTIONS):
        with socket.create_connection((address, PORT)) as connection:
            connection.send(b"?")
            connection.recv(1)
    return CONNECTIONS / (time.perf_counter() - began)


def _questions(address: str) -> float:
    took = []
    with socket.create_connection((address, PORT)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(QUESTIONS):
            began = time.perf_counter()
            connection.send(b"?")
            connection.recv(1)
            took.append(time.perf_counter() - began)
    return median(took)


def _service(pods: list[Pod]) -> ServiceForwarding:
    frontend = Frontend(FrontendKind.CLUSTER_IP, 4, ip_address(VIP).packed, 6, PORT)
    targets = tuple(sorted(Target(ip_address(pod.v4).packed, PORT) for pod in pods))
    entry = Entry(frontend, "p", targets, Verdict.FORWARD, Masquerade.OFF_CLUSTER)
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "default", "bench"), (entry,))


@contextmanager
def _running(node: Node, make: Callable[[], Dataplane]) -> Iterator[None]:
    made = make()
    with node.space.entered():
        made.start()
    made.apply([_service(node.servers)], complete=True)
    try:
        yield
    finally:
        made.close()
        with node.space.entered():
            cleanup()
        delete_tables([node.space])


def _measure(name: str, client: Namespace, address: str) -> None:
    with _SPAWN.Pool(1) as pool:
        pool.apply(ask, (client.name, address, "questions"))
        found, spent = {}, {}
        for what in ("bytes", "connections", "questions"):
            before = time.process_time()
            found[what] = pool.apply(ask, (client.name, address, what))
            spent[what] = time.process_time() - before
    print(
        f"{name:12} {found['bytes'] / 1e9:6.2f} GB/s ({spent['bytes'] / TOTAL * 1e9:.2f} s of processor per GB)  "
        f"{found['connections']:7.0f} connections/s ({spent['connections'] / CONNECTIONS * 1e6:4.0f} us each)  "
        f"{found['questions'] * 1e6:6.0f} us per question",
        flush=True,
    )


def main() -> int:
    print(machine.description())
    with fabric.running(fabric.Topology(nodes=1)) as made:
        node = made.nodes[0]
        servers = [_SPAWN.Process(target=serve, args=(pod.space.name, pod.v4), daemon=True) for pod in node.servers]
        for server in servers:
            server.start()
        time.sleep(1)
        client = node.clients[0].space
        _measure("no proxy", client, node.servers[0].v4)
        with _running(node, lambda: NftablesDataplane(settings=Nftables(CLUSTER_CIDRS))):
            _measure("nftables", client, VIP)
        with _running(node, lambda: UserspaceDataplane(Userspace(CLUSTER_CIDRS))):
            _measure("userspace", client, VIP)
        for server in servers:
            server.kill()
            server.join()
    return 0


if __name__ == "__main__":
    sys.exit(main())
