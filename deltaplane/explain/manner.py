"""In what a proxy mode treats packets otherwise than nftables mode does. Values only; rows are docs/behaviour.md's."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from types import MappingProxyType

from msgspec import Struct

from deltaplane.model import Protocol


class Refused(IntEnum):
    """Which addresses of Services refuse the ports that no Service has there (F5)."""

    NONE = 0
    CLUSTER_IPS = 1
    EVERY_ADDRESS = 2  # that is on the node for Services: external and load balancer addresses too


class Manner(Struct, frozen=True):
    """How one mode is.

    `ranges_first`: source ranges come before the refusal for want of endpoints (F7). `guards_own`: external addresses
    without endpoints refuse the node's own connections as well (F2). `loopback`: node ports answer on loopback of IPv4
    (B5): on 127.0.0.1, and on all of it where they answer on every address. `relays`: the agent itself connects, so
    endpoints see the node. `pins_all`: endpoints that reach themselves are masqueraded wherever they are (I4).
    `refuses_anywhere`: node ports without endpoints refuse at every address of the node (F3). `rejects`: False where
    the kernel cannot refuse, and drops instead.
    """

    mode: str = "nftables"
    refused: Refused = Refused.CLUSTER_IPS
    drops_unallocated: bool = True  # addresses of a ServiceCIDR that no Service has (F6)
    ranges_first: bool = True
    guards_own: bool = True
    loopback: bool = False
    relays: bool = False
    pins_all: bool = False
    refuses_anywhere: bool = False
    rejects: bool = True
    protocols: frozenset[int] = frozenset(map(int, Protocol))

    def routes_loopback(self, family: int) -> bool:
        """Whether connections from loopback get to endpoints: by route_localnet, which only IPv4 has, or the agent."""
        return self.relays or (self.loopback and family == 4)


_BY_MODE = MappingProxyType({
    "iptables": Manner(
        "iptables", Refused.NONE, drops_unallocated=False, ranges_first=False, guards_own=False,
        pins_all=True, refuses_anywhere=True,
    ),
    "ipvs": Manner("ipvs", Refused.EVERY_ADDRESS, drops_unallocated=False),
    "userspace": Manner(
        "userspace", ranges_first=False, relays=True, protocols=frozenset({int(Protocol.TCP), int(Protocol.UDP)})
    ),
})  # fmt: skip


def manner_of(mode: str, known: Mapping[str, Manner] = _BY_MODE) -> Manner:
    """A mode as it is with its usual options; one that is not known is taken for nftables mode."""
    return known.get(mode, Manner())
