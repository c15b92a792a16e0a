"""Where a Service's UDP flows are sent, and with whom they may stay. Pure; row ids are those of docs/behaviour.md."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from deltaplane.forwarding import Entry, FrontendKind, Target
from deltaplane.model import Protocol
from nodeagent.conntrack.clients import NOBODY, Stay

_UDP = int(Protocol.UDP)
_EVERY = {4: b"\0" * 4, 6: b"\0" * 16}  # stands for the node's own addresses until they are put in


class Place(NamedTuple):
    """Where a flow was sent by its client: a packed address and a port. The family is the address's length."""

    address: bytes
    port: int
    protocol: int = _UDP


Flows = Mapping[Place, Stay]  # of one Service: where to, with whom a flow may stay, and whose


def place_of(family: int, address: bytes, port: int) -> Place:
    """A frontend's; `address` is empty for a node port."""
    return Place(address or _EVERY[family], port)


def flows_of(entries: Iterable[Entry]) -> Flows:
    """The UDP frontends of one Service, each with the endpoints its flows may stay with (J2), and with whose.

    Those are the serving ones, whatever policy, topology and termination say of new flows, and the chosen ones. Of an
    address given twice, as an external IP too, the ranges count, as in the kernel.
    """
    flows: dict[Place, Stay] = {}
    for entry in entries:
        frontend = entry.frontend
        if frontend.protocol == _UDP:
            place = place_of(frontend.family, frontend.address, frontend.port)
            known = flows.get(place, NOBODY)
            targets = _union(known.targets, entry.serving, entry.targets, entry.local_targets or ())
            vip = entry.is_vip or frontend.kind == FrontendKind.LOAD_BALANCER
            ranges = entry.source_ranges if vip else ()
            flows[place] = Stay(targets, known.ranges or ranges)
    return flows


def _union(*lists: tuple[Target, ...]) -> tuple[Target, ...]:
    """All of them; nearly always that is the serving ones alone, whose tuple is shared then."""
    longest = max(lists, key=len)
    everything = set().union(*lists)
    return longest if len(everything) == len(longest) else tuple(sorted(everything))
