"""Takes chains out of the kernel, whatever flavour they are of, and tables that have nothing left then."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing

from nodeagent.linux.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.programs import Flavour, Iptables, Tools, find, legacy_tables
from nodeagent.linux.iptables.saved import TABLES, Listing, jumps_to, listing, removal
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects, tables
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.objects import Table
from nodeagent.linux.nft.transaction import Batch

MOST = 1000
"""Chains in one transaction of the nft flavour, about.

iptables-nft walks a list of all the names in a transaction at each of its lines, so that 50,000 chains at once take it
tens of minutes. Smaller parts have the kernel walk all chains more often, as it does with every transaction. The legacy
flavour replaces the whole table with every transaction, so there it is one for all.
"""
_NONREC = 0x100  # NLM_F_NONREC: refused where anything is inside
_ACCEPT = 1
_HOOK, _POLICY = 4, 5  # NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY

Choose = Callable[[Mapping[str, Listing]], Mapping[str, Sequence[str]]]
"""From all tables of a family, as they are listed, to the chains of each that are to go, in this order."""


def remove_everywhere(mode: str, choose: Choose, flavours: Iterable[Flavour] = tuple(Flavour)) -> tuple[str, ...]:
    """Removes chains of these flavours and both families in this network namespace; names what was there.

    Where the nft flavour's tables have nothing left but the kernel's own chains, they go as well. Raises
    KernelUnavailable.
    """
    found: list[str] = []
    for flavour in flavours:
        if find(flavour, 4, "restore") is None:
            continue
        with closing(Tools(flavour)) as tools:
            for family in filter(tools.has, (4, 6)):
                found += remove(tools, family, mode, choose)
    return tuple(found)


def remove(kernel: Iptables, family: int, mode: str, choose: Choose) -> Iterator[str]:
    """The same of one flavour and family, such as "iptables-nft nat: 7 chains". Raises KernelUnavailable."""
    found = {table: listing(kernel.save(family, table)) for table in tables_there(kernel.flavour, family)}
    for table, chains in choose(found).items():
        if not chains:
            continue
        text = removal(table, chains, jumps_to(frozenset(chains), found[table]), most_of(kernel.flavour))
        refusal = kernel.restore(family, text)
        if refusal is not None:
            raise KernelUnavailable(f"{mode}: removing chains of {table} failed ({refusal.text}): try again")
        yield f"ip{'6' if family == 6 else ''}tables-{kernel.flavour.value} {table}: {len(chains)} chains"
        if kernel.flavour is Flavour.NFT:
            drop_empty(family, table)


def most_of(flavour: Flavour) -> int:
    """How many chains one transaction may have; 0: any number."""
    return MOST if flavour is Flavour.NFT else 0


def tables_there(flavour: Flavour, family: int) -> Sequence[str]:
    """Which of iptables' tables there are. To ask a program for a table may make it, or fail."""
    try:
        there = legacy_tables(family) if flavour is Flavour.LEGACY else nft_tables(family)
    except DataplaneUnavailable:
        return ()
    return tuple(table for table in TABLES if table in there)


def nft_tables(family: int) -> Collection[str]:
    """Which of iptables' tables nftables has in this network namespace. Raises KernelUnavailable."""
    return _asked(lambda kernel: [table for table in TABLES if tables.is_there(kernel, Table(family, table))])


def has_chain(family: int, table: str, name: str) -> bool:
    """Whether nftables has a chain; without listing the table. Raises KernelUnavailable."""
    return bool(_asked(lambda kernel: [name] if tables.has_chain(kernel, Table(family, table), name) else []))


def drop_empty(family: int, table: str) -> bool:
    """Deletes a table that has only the kernel's chains, without rules and accepting; whether it did.

    iptables makes them again when it needs them. The kernel refuses where another program puts something in meanwhile.
    Raises KernelUnavailable.
    """
    return bool(_asked(lambda kernel: [table] if _drop_empty(kernel, Table(family, table)) else []))


def _drop_empty(kernel: NetlinkKernel, table: Table) -> bool:
    chains = {wire.as_text(held[3]): _is_the_kernels(held) for held in tables.each(kernel, table, objects.GET_CHAIN)}
    if not all(chains.values()) or not tables.is_there(kernel, table):
        return False
    batch = Batch(table.name, 1)
    for name in chains:
        batch.add(objects.DELETE_CHAIN, _NONREC, table.family, wire.text(1, table.name) + wire.text(3, name))
    batch.add(objects.DELETE_TABLE, _NONREC, table.family, wire.text(1, table.name))
    return not kernel.commit(batch.data(), batch.first, batch.last)


def _is_the_kernels(chain: Mapping[int, bytes]) -> bool:
    return _HOOK in chain and wire.as_number(chain.get(_POLICY, bytes(4))) == _ACCEPT


def _asked(ask: Callable[[NetlinkKernel], list[str]]) -> list[str]:
    with closing(NetlinkKernel()) as kernel:
        try:
            return ask(kernel)
        except OSError as error:
            why = os.strerror(error.errno or errno.EIO)
            raise KernelUnavailable(f"iptables: looking for empty tables failed ({why}): try again") from error
