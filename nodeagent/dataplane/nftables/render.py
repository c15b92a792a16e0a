"""From forwarding entries to what stands in the tables, shared chains included. Pure; `desired` keeps the results."""

from __future__ import annotations

from functools import cache, lru_cache
from hashlib import sha256

from msgspec import Struct
from msgspec.structs import replace

from deltaplane.forwarding import Entry, FrontendKind, Masquerade, Target, Verdict
from deltaplane.model import PROTOCOL_NAMES, ObjectKey
from nodeagent.dataplane.nftables.shared import LOCAL_OFFSET, SMALLEST
from nodeagent.linux.nft.ranges import Range, merged

REFUSALS = {Verdict.FORWARD: "", Verdict.REJECT: "reject", Verdict.DROP: "drop"}


class Placement(Struct, frozen=True, gc=False):
    """All that the tables say about one frontend.

    `chain`: the shared chain it goes to, or none. `slots`, `local`: its endpoints for everybody and for sources
    outside the cluster, as lists of packed values (`slots`). `refusal`: "drop", "reject" or nothing, in the
    no-endpoint maps. `firewall`: the chain that drops sources outside `ranges`, which are not read back.
    """

    chain: str
    slots: bytes = b""
    local: bytes = b""
    refusal: str = ""
    firewall: str = ""
    ranges: tuple[Range, ...] = ()


def place(entry: Entry, owner: ObjectKey) -> Placement:
    """What the tables must say about a Service's entry. Raises ValueError for more endpoints than a list has slots."""
    placement = _place(entry, owner)
    if not entry.source_ranges:
        return placement
    name, ranges = firewall(entry.source_ranges)
    return replace(placement, firewall=name, ranges=ranges)


def _place(entry: Entry, owner: ObjectKey) -> Placement:
    if entry.verdict != Verdict.FORWARD:
        return _REFUSED[entry.verdict]
    node = entry.frontend.kind == FrontendKind.NODE_PORT
    slots, count = pack(entry.targets), len(entry.targets)
    if count > LOCAL_OFFSET:
        raise ValueError(
            f"{count} endpoints of one frontend, the tables hold {LOCAL_OFFSET}: spread them over two Services"
        )
    tail = affinity(entry, owner) if entry.affinity_seconds else ""
    if entry.local_targets is None:
        return Placement(_shared(node, entry.masquerade == Masquerade.ALWAYS, count) + tail, slots)
    chain = _by_source(node, count, len(entry.local_targets)) + tail
    refusal = "" if entry.local_targets else REFUSALS[entry.external_verdict]
    return Placement(chain, slots, pack(entry.local_targets), refusal)


_REFUSED = {verdict: Placement("", refusal=text) for verdict, text in REFUSALS.items()}


def affinity(entry: Entry, owner: ObjectKey) -> str:
    """What is behind the names of a service port's chains with affinity: its timeout and its own name."""
    protocol = PROTOCOL_NAMES.get(entry.frontend.protocol, str(entry.frontend.protocol))
    return f"/{entry.affinity_seconds}/{owner.namespace}/{owner.name}/{entry.port_name}/{protocol}"


@lru_cache(maxsize=1024)
def firewall(cidrs: tuple[str, ...]) -> tuple[str, tuple[Range, ...]]:
    """The chain for a list of allowed sources, and the list; Services with equal ones share the chain."""
    ranges = merged(cidrs)
    text = " ".join(found.text for found in ranges)
    return f"firewall/{sha256(text.encode()).hexdigest()[:16]}", ranges


def pack(targets: tuple[Target, ...]) -> bytes:
    """A list of endpoint values in canonical order."""
    return b"".join([address + port.to_bytes(2, "big") + b"\0\0" for address, port in targets])


def power(count: int) -> int:
    """The smallest power of two that is not below `count`, and at least `SMALLEST`."""
    return 1 << (count - 1).bit_length() if count > SMALLEST else SMALLEST


@cache
def _shared_name(node: bool, marked: bool, size: int) -> str:
    kind = ("nodeport" if marked else "node") if node else ("external" if marked else "cluster")
    return f"{kind}-{size}"


def _shared(node: bool, marked: bool, count: int) -> str:
    return _shared_name(node, marked, power(count))


def _by_source(node: bool, count: int, local: int) -> str:
    return f"{'nodeport' if node else 'external'}-local-{power(count)}-{power(local) if local else 0}"
