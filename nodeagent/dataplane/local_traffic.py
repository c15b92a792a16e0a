"""Whose pods the local-traffic detector tells: this node's, or all nodes'. Pure; every backend asks the same.

Under externalTrafficPolicy Local only this node's pods may be sent anywhere with their own address (C1): an endpoint
elsewhere answers a pod of another node past this one, from an address that it never asked.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Network
from typing import Protocol

from nodeagent.linux import text

Network = IPv4Network | IPv6Network


class Detecting(Protocol):
    """The settings of any backend."""

    @property
    def interface(self) -> str:
        """At which this node's pods arrive; empty: they are told by address."""

    @property
    def node_only(self) -> bool:
        """Whether the networks are those of this node's pods."""

    def network(self, family: int) -> Network | None:
        """Where pods are. Raises ValueError for a CIDR that is none."""


def of_all_nodes(settings: Detecting, family: int) -> Network | None:
    """The network of all nodes' pods; None where the detector tells this node's, or none, or every address is one."""
    network = None if settings.interface or settings.node_only else settings.network(family)
    return network if network is not None and network.prefixlen else None


def of_this_node(settings: Detecting, family: int, cidrs: Iterable[str]) -> tuple[Network, ...]:
    """What of the network of all nodes' pods is this node's, by its Node's pod CIDRs. Raises ValueError."""
    network = of_all_nodes(settings, family)
    if network is None:
        return ()
    found = map(text.network, cidrs)
    return tuple(max(one, network, key=lambda each: each.prefixlen) for one in found if one.overlaps(network))
