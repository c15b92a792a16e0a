"""Tables of the nft flavour that have nothing left: iptables makes them and the kernel's chains when it needs them."""

from __future__ import annotations

import errno
import os

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import NFPROTO

_NONREC = 0x100  # NLM_F_NONREC: refused where anything is inside
_ACCEPT = 1
_ABSENT = (errno.ENOENT, errno.EAFNOSUPPORT)
_HOOK, _POLICY = 4, 5  # NFTA_CHAIN_HOOK, NFTA_CHAIN_POLICY


def present(family: int) -> frozenset[str]:
    """Which of iptables' tables nftables has in this network namespace. Raises KernelUnavailable."""
    kernel = NetlinkKernel()
    try:
        return frozenset(table for table in n.TABLES if _has(kernel, family, table))
    except OSError as error:
        raise _unavailable(error) from error
    finally:
        kernel.close()


def has_chain(family: int, table: str, name: str) -> bool:
    """Whether nftables has a chain; without listing the table. Raises KernelUnavailable."""
    kernel = NetlinkKernel()
    asked = wire.request(objects.GET_CHAIN, 0, 1, NFPROTO[family], wire.text(1, table) + wire.text(3, name))
    try:
        return next(kernel.ask(asked), None) is not None
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise _unavailable(error) from error
    finally:
        kernel.close()


def drop_empty(family: int, table: str) -> bool:
    """Deletes a table that has only the kernel's chains, without rules and accepting; whether it did.

    The kernel itself refuses where somebody puts something in meanwhile. Raises KernelUnavailable.
    """
    kernel = NetlinkKernel()
    try:
        chains = _chains(kernel, family, table)
        if not all(chains.values()) or not _has(kernel, family, table):
            return False
        batch = Batch(table, 1)
        for name in chains:
            batch.add(objects.DELETE_CHAIN, _NONREC, family, wire.text(1, table) + wire.text(3, name))
        batch.add(objects.DELETE_TABLE, _NONREC, family, wire.text(1, table))
        return not kernel.commit(batch.data(), batch.first, batch.last)
    except OSError as error:
        raise _unavailable(error) from error
    finally:
        kernel.close()


def _has(kernel: Kernel, family: int, table: str) -> bool:
    try:
        next(kernel.ask(wire.request(objects.GET_TABLE, 0, 1, NFPROTO[family], wire.text(1, table))), None)
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise
    return True


def _chains(kernel: Kernel, family: int, table: str) -> dict[str, bool]:
    """A table's chains, and whether each is one of the kernel's own that accepts."""
    asked = wire.request(objects.GET_CHAIN, wire.DUMP, 1, NFPROTO[family], wire.text(1, table))
    found = {}
    for message in kernel.ask(asked):
        held = wire.attributes(message.body)
        if wire.as_text(held[1]) == table:
            found[wire.as_text(held[3])] = _HOOK in held and wire.as_number(held.get(_POLICY, bytes(4))) == _ACCEPT
    return found


def _unavailable(error: OSError) -> KernelUnavailable:
    return KernelUnavailable(f"iptables: looking for empty tables failed ({os.strerror(error.errno or 0)}): try again")
