"""Whether this kernel takes the nftables program at all, tried with the very rules and nothing left behind."""

from __future__ import annotations

import errno
import os

from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.dataplane.nftables.program import SAMPLE_RANGES, SAMPLES, program
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.objects import DELETE_TABLE, NEW_TABLE, Table

PROBE, NO_TABLE = "deltaplane-probe", "deltaplane-no-table"
PARTS = (*SAMPLES, "firewall/sample")


def probe(kernel: Kernel | None = None) -> None:
    """Offers the IPv4 program in a transaction whose last message must fail, so that none of it ever holds.

    No packet meets it, and nobody who listens for changes hears of it. Raises DataplaneUnavailable.
    """
    used = kernel or NetlinkKernel()
    try:
        _offer(used)
    except KernelUnavailable as error:
        raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
    finally:
        if kernel is None:
            used.close()


def has_tables() -> bool:
    """Whether this kernel takes IPv4 tables at all, whatever is in them, tried in the same way."""
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return False
    batch = Batch(PROBE, 1)
    batch.add(NEW_TABLE, wire.CREATE, 4, Table(4, PROBE).attributes())
    try:
        return [reply.errno for reply in _refused(kernel, batch)] == [errno.ENOENT]
    except KernelUnavailable:
        return False
    finally:
        kernel.close()


def _refused(kernel: Kernel, batch: Batch) -> list[wire.Reply]:
    """What the kernel says of a transaction that ends in what cannot be done."""
    batch.add(DELETE_TABLE, 0, 4, Table(4, NO_TABLE).attributes())
    return kernel.commit(batch.data(), batch.first, batch.last)


def _offer(kernel: Kernel) -> None:
    batch = Batch(PROBE, 1)
    offered = program(4, Settings(table=PROBE))
    batch.install(offered)
    for name in PARTS:  # what is made when a Service needs it
        batch.part(4, offered.part(name, SAMPLE_RANGES[4]))
    replies = _refused(kernel, batch)
    refused = next((reply.errno for reply in replies if reply.sequence != batch.last), 0)
    if not refused and [reply.errno for reply in replies] == [errno.ENOENT]:
        return
    code = refused or (replies[0].errno if replies else errno.EPROTO)
    if code in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT):
        raise unavailable(OSError(code, os.strerror(code)), PROBE)
    raise DataplaneUnavailable(
        f"nftables: this kernel refuses a part of the rules ({os.strerror(code)}): "
        "it needs nf_tables with NAT, maps and fib (Linux 5.13 or newer), or another proxy mode"
    )
