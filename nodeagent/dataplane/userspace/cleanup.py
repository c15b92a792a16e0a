"""Taking away what userspace mode leaves, for `--cleanup` and after a change of mode: redirects and own addresses.

And what kube-proxy's userspace mode, which it had up to 1.25, left in iptables.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_address

from nodeagent.dataplane.given_back import rule as given_back
from nodeagent.dataplane.iptables.cleanup import tables_there
from nodeagent.dataplane.iptables.prune_tables import drop_empty
from nodeagent.dataplane.iptables.tables import Listing, listing
from nodeagent.dataplane.iptables.tools import Flavour, Iptables, Tools, find
from nodeagent.dataplane.nftables import cleanup as tables
from nodeagent.dataplane.nftables.kernel import NetlinkKernel, unavailable
from nodeagent.dataplane.sockets import in_use
from nodeagent.dataplane.userspace.lines import FILTER, NAT, TOP
from nodeagent.dataplane.userspace.loopback import Route
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.text import target

KUBE_PROXY = frozenset((
    *("KUBE-PORTALS-CONTAINER", "KUBE-PORTALS-HOST", "KUBE-NODEPORT-CONTAINER", "KUBE-NODEPORT-HOST"),
    "KUBE-NODEPORT-NON-LOCAL",
))  # fmt: skip


def cleanup(settings: Settings | None = None) -> tuple[str, ...]:
    """Removes it from this network namespace; what was there, such as "nftables ip deltaplane-userspace".

    Raises AgentError.
    """
    chosen = settings or Settings()
    return (*_tables(chosen), *_chains(), *_addresses(chosen))


def release(settings: Settings | None = None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """As `cleanup`, but leaves the addresses while connections end there; what was there, and those addresses.

    Without its address a connection is cut off, and an agent that was asked to end has none accepted any more that was
    on its way. Raises AgentError.
    """
    chosen = settings or Settings()
    removed = (*_tables(chosen), *_chains())
    addresses = [chosen.address(family) for family in (4, 6)]
    used = tuple(str(ip_address(address)) for address in addresses if in_use((address,)))
    return (removed, used) if used else ((*removed, *_addresses(chosen)), ())


def _tables(settings: Settings) -> tuple[str, ...]:
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return ()  # where there is no nftables, nothing was left in it
    try:
        return tuple(f"nftables {found}" for found in tables.cleanup(kernel, (settings.table,)))
    except OSError as error:
        raise unavailable(error, settings.table) from error
    finally:
        kernel.close()


def _chains() -> tuple[str, ...]:
    found: list[str] = []
    for flavour in Flavour:
        if find(flavour, 4, "restore") is None:
            continue
        tools = Tools(flavour)
        try:
            found += [text for family in filter(tools.has, (4, 6)) for text in remove_chains(tools, family)]
        finally:
            tools.close()
    return tuple(found)


def remove_chains(tools: Iptables, family: int) -> Iterator[str]:
    """Takes our chains, and kube-proxy's of this mode, out of one family of a flavour. Raises KernelUnavailable."""
    there = tables_there(tools.flavour, family)
    for table in (table for table in (NAT, FILTER) if table in there):
        text, chains = removal(table, listing(tools.save(family, table)))
        if not chains:
            continue
        refusal = tools.restore(family, text)
        if refusal is not None:
            raise KernelUnavailable(f"userspace: removing chains of {table} failed ({refusal.text}): try again")
        if tools.flavour is Flavour.NFT:
            drop_empty(family, table)
        yield f"ip{'6' if family == 6 else ''}tables-{tools.flavour.value} {table}: {chains} chains of userspace mode"


def removal(table: str, found: Listing) -> tuple[str, int]:
    """The restore input that removes them from a table so listed, and how many they are."""
    gone = [name for name in found if name.startswith(TOP) or name in KUBE_PROXY]
    jumps = [
        f"-D {name} {given_back(rule)}"
        for name, rules in found.items()
        for rule in rules
        if name not in gone and target(rule) in gone
    ]
    heads, tails = (f":{name} - [0:0]" for name in gone), (f"-X {name}" for name in gone)
    return "\n".join((f"*{table}", *heads, *jumps, *tails, "COMMIT", "")), len(gone)


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
