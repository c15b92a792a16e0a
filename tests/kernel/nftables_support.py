"""What the nftables kernel tests share: a dataplane in a namespace, and entries over the laboratory's pods."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address

from deltaplane.forwarding import Entry, Frontend, FrontendKind, Hairpin, Masquerade, NodeForwarding, Target, Verdict
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.monitor import NetlinkMonitor
from tools.lab.fabric import CLUSTER_CIDRS, Node, Pod
from tools.lab.netns import Namespace

SETTINGS = Settings(CLUSTER_CIDRS)


class CountingKernel(NetlinkKernel):
    """The real kernel, counting what it is asked."""

    listings = 0
    transactions = 0

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        self.transactions += 1
        return super().commit(batch, first, last)

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        self.listings += 1
        return super().ask(request)


@contextmanager
def dataplane(space: Namespace, settings: Settings = SETTINGS) -> Iterator[tuple[NftablesDataplane, CountingKernel]]:
    """A started dataplane whose sockets are in this namespace."""
    with space.entered():
        kernel = CountingKernel()
        monitor = NetlinkMonitor(kernel)
    made = NftablesDataplane(kernel, settings, monitor)
    made.start()
    try:
        yield made, kernel
    finally:
        made.close()


def nft(space: Namespace, *arguments: str, stdin: str | None = None) -> str:
    """The stock tool inside a namespace; its output. Raises CalledProcessError."""
    command = ["ip", "netns", "exec", space.name, "nft", *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, check=True).stdout


def packed(text: str) -> bytes:
    return ip_address(text).packed


def targets(pods: list[Pod], family: int, port: int = 8080) -> tuple[Target, ...]:
    return tuple(sorted(Target(packed(pod.address(family)), port) for pod in pods))


def entry(frontend: Frontend, backends: tuple[Target, ...]) -> Entry:
    masquerade = Masquerade.OFF_CLUSTER if frontend.kind is FrontendKind.CLUSTER_IP else Masquerade.ALWAYS
    return Entry(frontend, "p", backends, Verdict.FORWARD if backends else Verdict.REJECT, masquerade)


def hairpins(node: Node, family: int, protocol: int, port: int = 8080) -> tuple[Hairpin, ...]:
    return tuple(sorted(Hairpin(packed(pod.address(family)), protocol, port) for pod in node.servers))


def node_addresses(node: Node) -> NodeForwarding:
    """What concerns the node: where its node ports answer, and its pod CIDRs."""
    return NodeForwarding((packed(node.address(4)), packed(node.address(6))), pod_cidrs=node.pod_cidrs)
