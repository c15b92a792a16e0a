"""From forwarding entries to what stands in the tables, shared chains included. Pure.

`tracker` keeps the results. Boundary of this version: `affinity_seconds` and `source_ranges` of an entry are not
programmed yet; affinity gets plain balancing, an address with source ranges stays closed. Both fit beside the constant
program (a chain and dynamic sets for each service port with affinity; a map
`firewall-ips` hooked before translation) without changing it.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

from deltaplane.forwarding import Entry, FrontendKind, Hairpin, Masquerade, ServiceForwarding, Target, Verdict
from nodeagent.program.nftables.program import LOCAL_OFFSET

REFUSALS = {Verdict.FORWARD: "", Verdict.REJECT: "reject", Verdict.DROP: "drop"}
CLUSTER_IP_MEMBER, HAIRPIN_MEMBER, NODE_PORT_MEMBER = 0, 1, 2  # which set a member belongs to

_IDENTITIES = {4: b"\x04", 6: b"\x06"}


class Placement(Struct, frozen=True, gc=False):
    """All that the tables say about one frontend.

    `chain`: the shared chain it goes to, or none. `slots`, `local`: its endpoints for everybody and for sources
    outside the cluster, as lists of packed values (`slots`). `refusal`: "drop", "reject" or nothing, in the
    no-endpoint maps.
    """

    chain: str
    slots: bytes = b""
    local: bytes = b""
    refusal: str = ""


def identity(entry: Entry) -> bytes:
    """The frontend's identity: a byte for the family, then its key in the maps (12 or 24 bytes; node ports 8)."""
    _, family, address, protocol, port = entry.frontend
    return b"%b%b%c\0\0\0%b\0\0" % (_IDENTITIES[family], address, protocol, port.to_bytes(2, "big"))


def is_node_port(frontend: bytes) -> bool:
    return len(frontend) == 9


def place(entry: Entry) -> Placement:
    """What the tables must say about an entry. Raises ValueError for more endpoints than a list has slots."""
    if entry.verdict != Verdict.FORWARD:
        return _REFUSED[entry.verdict]
    if entry.source_ranges:
        return _REFUSED[Verdict.DROP]  # closed rather than open to everybody: ranges cannot be said yet
    node = entry.frontend.kind == FrontendKind.NODE_PORT
    slots, count = pack(entry.targets), len(entry.targets)
    if count > LOCAL_OFFSET:
        raise ValueError(
            f"{count} endpoints of one frontend, the tables hold {LOCAL_OFFSET}: spread them over two Services"
        )
    if entry.local_targets is None:
        return Placement(_shared(node, entry.masquerade == Masquerade.ALWAYS, count), slots)
    chain = _by_source(node, count, len(entry.local_targets))
    refusal = "" if entry.local_targets else REFUSALS[entry.external_verdict]
    return Placement(chain, slots, pack(entry.local_targets), refusal)


_REFUSED = {verdict: Placement("", refusal=text) for verdict, text in REFUSALS.items()}


def pack(targets: tuple[Target, ...]) -> bytes:
    """A list of endpoint values in canonical order."""
    return b"".join([address + port.to_bytes(2, "big") + b"\0\0" for address, port in targets])


def power(count: int) -> int:
    """The smallest power of two that is not below `count` (at least 1)."""
    return 1 << (count - 1).bit_length() if count > 1 else 1


@cache
def _shared_name(node: bool, marked: bool, size: int) -> str:
    kind = ("nodeport" if marked else "node") if node else ("external" if marked else "cluster")
    return f"{kind}-{size}"


def _shared(node: bool, marked: bool, count: int) -> str:
    return _shared_name(node, marked, power(count))


def _by_source(node: bool, count: int, local: int) -> str:
    return f"{'nodeport' if node else 'external'}-local-{power(count)}-{power(local) if local else 0}"


def members(service: ServiceForwarding) -> tuple[bytes, ...]:
    """The set elements a Service needs, each once: its ClusterIPs and its hairpin connections.

    A member's identity is a byte for the family, a byte for the set, then the element's key.
    """
    addresses = (e.frontend for e in service.entries if e.frontend.kind == FrontendKind.CLUSTER_IP)
    found = [_IDENTITIES[f.family] + b"\0" + f.address for f in addresses]
    return tuple(dict.fromkeys(found + [_hairpin(hairpin) for hairpin in service.hairpins]))


def _hairpin(hairpin: Hairpin) -> bytes:
    address, protocol, port = hairpin
    family = b"\x04\x01" if len(address) == 4 else b"\x06\x01"
    return b"%b%b%b%c\0\0\0%b\0\0" % (family, address, address, protocol, port.to_bytes(2, "big"))


def node_members(addresses: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The elements of `nodeport-ips`: the node's addresses without loopback ones (B5, B6)."""
    fit = (address for address in addresses if not is_loopback(address))
    return tuple(dict.fromkeys((b"\x04\x02" if len(a) == 4 else b"\x06\x02") + a for a in fit))


def is_loopback(address: bytes) -> bool:
    return address[0] == 127 if len(address) == 4 else address == bytes(15) + b"\x01"
