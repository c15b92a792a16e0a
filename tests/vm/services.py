"""Services over the pods of the laboratory, as forwarding entries."""

from __future__ import annotations

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Hairpin,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from tests.unit.nodeagent.dataplane.ipvs.cases import packed
from tools.lab.fabric import Node, Pod

Where = tuple[int, str, int, int]  # family, address, the protocol's number, port


def vip(family: int, which: int = 1) -> str:
    return f"172.30.0.{which}" if family == 4 else f"fd00:10:96::{which}"


def at(pods: list[Pod], family: int) -> tuple[Target, ...]:
    return tuple(sorted(Target(packed(pod.address(family)), 8080) for pod in pods))


def front(kind: FrontendKind, where: Where) -> Frontend:
    family, address, number, port = where
    return Frontend(kind, family, packed(address) if address else b"", number, port)


def entry(kind: FrontendKind, where: Where, pods: list[Pod], *, ranges: tuple[str, ...] = ()) -> Entry:
    """Under Cluster policy."""
    backends = at(pods, where[0])
    masquerade = Masquerade.OFF_CLUSTER if kind is FrontendKind.CLUSTER_IP else Masquerade.ALWAYS
    verdict = Verdict.FORWARD if backends else Verdict.REJECT
    return Entry(front(kind, where), "p", backends, verdict, masquerade, source_ranges=ranges)


def local(kind: FrontendKind, where: Where, pods: list[Pod], here: list[Pod]) -> Entry:
    """Under Local policy."""
    family, external = where[0], Verdict.FORWARD if here else Verdict.DROP
    lists = at(pods, family), at(here, family)
    return Entry(front(kind, where), "p", lists[0], Verdict.FORWARD, Masquerade.NODE_ONLY, lists[1], external)


def service(*entries: Entry, hairpins: tuple[Hairpin, ...] = (), name: str = "web") -> ServiceForwarding:
    return ServiceForwarding(ObjectKey(Kind.SERVICE, "default", name), entries, hairpins)


def addresses(node: Node) -> NodeForwarding:
    own = tuple(sorted((packed(node.address(4)), packed(node.address(6)))))
    return NodeForwarding(own, pod_cidrs=node.pod_cidrs)
