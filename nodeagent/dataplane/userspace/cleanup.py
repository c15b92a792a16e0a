"""Taking away what userspace mode leaves, for `--cleanup` and after a change of mode: redirects and own addresses.

And what kube-proxy's userspace mode, which it had up to 1.25, left in iptables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address

from nodeagent.dataplane.userspace.lines import FILTER, NAT, TOP
from nodeagent.dataplane.userspace.loopback import Route
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.iptables.removal import remove_everywhere
from nodeagent.linux.iptables.saved import Listing
from nodeagent.linux.nft.tables import delete_here
from nodeagent.linux.tcp_sockets import in_use

DEFAULT = Settings()
KUBE_PROXY = frozenset((
    *("KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"),
    "KUBE-NODEPORT-NON-LOCAL",
))  # fmt: skip


def cleanup(settings: Settings = DEFAULT) -> tuple[str, ...]:
    """Removes it from this network namespace; what was there, such as "nftables ip deltaplane-userspace".

    Raises AgentError.
    """
    return (*delete_here(settings.table), *_chains(), *_addresses(settings))


def release(settings: Settings = DEFAULT) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """As `cleanup`, but leaves the addresses while connections end there; what was there, and those addresses.

    Without its address a connection is cut off, and an agent that was asked to end has none accepted any more that was
    on its way. Raises AgentError.
    """
    removed = (*delete_here(settings.table), *_chains())
    addresses = [settings.address(family) for family in (4, 6)]
    used = tuple(str(ip_address(address)) for address in addresses if in_use((address,)))
    return (removed, used) if used else ((*removed, *_addresses(settings)), ())


def _chains() -> tuple[str, ...]:
    return tuple(f"{found} of userspace mode" for found in remove_everywhere("userspace", chosen))


def chosen(found: Mapping[str, Listing]) -> dict[str, list[str]]:
    """The chains of each table that are ours, or kube-proxy's of this mode."""
    return {
        table: [name for name in chains if name.startswith(TOP) or name in KUBE_PROXY]
        for table, chains in found.items()
        if table in (NAT, FILTER)
    }


def _addresses(settings: Settings) -> tuple[str, ...]:
    route = Route()
    try:
        return tuple(
            f"{ip_address(address)} on the loopback interface"
            for address in (settings.address(4), settings.address(6))
            if route.remove(address)
        )
    except OSError as error:
        reason = error.strerror or os.strerror(error.errno or 0)
        text = f"userspace: removing our addresses from the loopback interface failed ({reason})"
        raise KernelUnavailable(f"{text}: give the agent CAP_NET_ADMIN in this network namespace") from error
    finally:
        route.close()
