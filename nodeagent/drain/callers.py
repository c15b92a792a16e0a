"""Which Pod asks, told by nothing but the address that it calls from; and why one is sent away. Pure.

A Pod asks for itself alone: there is nothing in a request by which it could name another. An address that is this
node's own is every hostNetwork Pod's, and the kubelet's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from ipaddress import ip_address, ip_network

from msgspec import Struct

from deltaplane.addresses import parse_address
from deltaplane.model import EndpointSlice, ServiceName, family_of
from deltaplane.names import shown_address
from deltaplane.taking import endpoint_of


class Refused(Exception):
    """This caller gets no answer; the text says why, for the log of its Pod. `status`: the HTTP status."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Caller(Struct, frozen=True):
    """`services`: those that have its address in a slice now; empty: none has, or none has any more."""

    address: bytes
    services: frozenset[ServiceName] = frozenset()

    @property
    def shown(self) -> str:
        return shown_address(self.address)


class Place(Struct, frozen=True):
    """This node: its name, all addresses of the machine, and where Pods have theirs (CIDRs; none: not known)."""

    node: str
    addresses: Collection[bytes]
    pods: Sequence[str] = ()


def packed(host: str) -> bytes:
    """The packed address of a peer as a socket names it. Raises `Refused` for what is none that a Pod can have."""
    try:
        return parse_address(host)
    except ValueError:
        raise Refused(403, f"{host!r} is not an address that an endpoint can have") from None


def stranger(address: bytes, place: Place) -> bool:
    """Whether it is in none of the Pods' ranges: an endpoint still, or somebody from outside. Raises `Refused`."""
    if address in place.addresses or ip_address(address).is_loopback:
        raise Refused(403, _OWN.format(at=shown_address(address)))
    return not _among(address, place.pods)


def caller(address: bytes, place: Place, slices: Iterable[EndpointSlice]) -> Caller:
    """Who asks. Raises `Refused` for one that is no Pod of this node with an address of its own."""
    at, strange = shown_address(address), stranger(address, place)
    having = [(piece, found) for piece in slices if (found := endpoint_of(piece, address)) is not None]
    elsewhere = {found.node for _, found in having if found.node not in {"", place.node}}
    if elsewhere and len(elsewhere) == len({found.node for _, found in having}):
        raise Refused(403, f"{at} is an endpoint on node {', '.join(sorted(elsewhere))}: ask the agent of that node")
    if not having and strange:
        raise Refused(403, f"{at} is no endpoint, and not in the Pods' ranges {', '.join(place.pods)}")
    return Caller(address, frozenset((piece.namespace, piece.service) for piece, _ in having))


_OWN = (
    "{at} is this node's own address, which hostNetwork Pods, the kubelet and every process of the node have: which "
    "Pod asks cannot be told. Ask from inside a Pod with an address of its own, by an exec hook and not an httpGet one"
)


def _among(address: bytes, ranges: Sequence[str]) -> bool:
    """Whether it may be a Pod's: where nothing is known of its family's ranges, it may."""
    mine = [text for text in ranges if (6 if ":" in text else 4) == family_of(address)]
    return not mine or any(ip_address(address) in ip_network(text) for text in mine)
