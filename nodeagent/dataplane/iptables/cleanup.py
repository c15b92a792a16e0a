"""Taking away what was programmed, for `--cleanup` and after a change of mode: ours, which is also kube-proxy's.

What the kubelet makes stays; KUBE-FIREWALL, which both make, stays where the kubelet shows itself in the mangle table.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import closing

from nodeagent.dataplane.given_back import rule as given_back
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables import prune_tables
from nodeagent.dataplane.iptables.accounting import Accounts
from nodeagent.dataplane.iptables.delivery import MOST
from nodeagent.dataplane.iptables.flavour import HINTS
from nodeagent.dataplane.iptables.prune_tables import drop_empty, has_chain
from nodeagent.dataplane.iptables.tables import Listing, listing
from nodeagent.dataplane.iptables.tools import Flavour, Iptables, Tools, find, legacy_tables
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.text import target

_CHAINS = {
    n.FILTER: (n.SERVICES, n.EXTERNAL_SERVICES, n.FORWARD, n.NODE_PORTS, n.PROXY_FIREWALL, n.CANARY),
    n.NAT: (n.SERVICES, n.NODE_PORTS, n.POSTROUTING, n.MARK_MASQ, n.CANARY),
    n.MANGLE: (n.CANARY,),
}


def cleanup(
    flavours: Iterable[Flavour] = tuple(Flavour), keep: Mapping[str, Collection[str]] | None = None
) -> tuple[str, ...]:
    """Removes it from both families in this network namespace; what was there, such as "iptables-nft nat: 7 chains".

    Where the nft flavour's tables have nothing left but the kernel's own chains, they go as well. Counters go where
    neither flavour is left. `keep`: chains by table that another mode has made its own. Raises KernelUnavailable.
    """
    found: list[str] = []
    chosen = frozenset(flavours)
    for flavour in chosen:
        if find(flavour, 4, "restore") is None:
            continue
        tools = Tools(flavour)
        try:
            for family in filter(tools.has, (4, 6)):
                found += remove(tools, family, keep or {})
        finally:
            tools.close()
    return (*found, *(_counters() if chosen == frozenset(Flavour) else ()))


def present() -> bool:
    """Whether either flavour has the chain of Services, in IPv4; false where that cannot be asked."""
    return any(_has_services(flavour) for flavour in Flavour if find(flavour, 4, "save") is not None)


def _has_services(flavour: Flavour) -> bool:
    try:
        if flavour is Flavour.NFT:
            return has_chain(4, n.NAT, n.SERVICES)
        return n.NAT in tables_there(flavour, 4) and n.SERVICES in _listed(flavour)
    except (KernelUnavailable, DataplaneUnavailable):
        return False


def _listed(flavour: Flavour) -> Listing:
    tools = Tools(flavour)
    try:
        return listing(tools.save(4, n.NAT))
    finally:
        tools.close()


def _counters() -> list[str]:
    try:
        with closing(Accounts()) as accounts:
            return [f"counter {name}" for name in n.COUNTERS if accounts.delete(name)]
    except OSError:
        return []  # a kernel without them


def remove(kernel: Iptables, family: int, keep: Mapping[str, Collection[str]]) -> Iterator[str]:
    """The same of one flavour and family. Raises KernelUnavailable."""
    there = tables_there(kernel.flavour, family)
    tables = [table for table in n.TABLES if table in there]
    found = {table: listing(kernel.save(family, table)) for table in tables}
    kubelet = any(hint in found.get(n.MANGLE, ()) for hint in HINTS)
    for table in tables:
        most = MOST if kernel.flavour is Flavour.NFT else 0
        text, chains = removal(table, found[table], keep.get(table, ()), kubelet=kubelet, most=most)
        if not chains:
            continue
        refusal = kernel.restore(family, text)
        if refusal is not None:
            raise KernelUnavailable(f"iptables: removing chains of {table} failed ({refusal.text}): try again")
        yield f"ip{'6' if family == 6 else ''}tables-{kernel.flavour.value} {table}: {chains} chains"
        if kernel.flavour is Flavour.NFT:
            drop_empty(family, table)


def tables_there(flavour: Flavour, family: int) -> Collection[str]:
    """Asking a program for a table may make it, or fail where the kernel has not this flavour."""
    if flavour is Flavour.LEGACY:
        return legacy_tables(family)
    try:
        return prune_tables.present(family)
    except DataplaneUnavailable:
        return ()


def removal(table: str, found: Listing, keep: Collection[str] = (), *, kubelet: bool, most: int = 0) -> tuple[str, int]:
    """The restore input that removes what is ours from a table so listed, and how many chains that are.

    `most`: chains in one transaction; 0: all.
    """
    known = _CHAINS[table] if kubelet else (*_CHAINS[table], n.KUBELET_FIREWALL)
    ours = [name for name in found if name in known or (table == n.NAT and n.is_of_services(name))]
    ours = [name for name in ours if name not in keep]
    gone = frozenset(ours)
    jumps = [
        f"-D {name} {given_back(rule)}"
        for name, rules in found.items()
        for rule in rules
        if name not in gone and target(rule) in gone
    ]
    lines: list[str] = []
    for part in _parts(sorted(ours, key=_rank), most):
        lines += (
            f"*{table}",
            *(f":{name} - [0:0]" for name in part),
            *jumps,
            *(f"-X {name}" for name in part),
            "COMMIT",
        )
        jumps = []
    return "\n".join((*lines, "")), len(ours)


def _rank(name: str) -> int:
    """Chains that lead to others go before them."""
    if n.is_of_services(name):
        return n.DESCENT.index(name[:8])
    return len(n.DESCENT) if name in (n.MARK_MASQ, n.CANARY) else -1


def _parts(names: list[str], most: int) -> Iterator[list[str]]:
    """All at once, or so many in one transaction."""
    size = most or len(names) or 1
    return (names[start : start + size] for start in range(0, len(names), size))
