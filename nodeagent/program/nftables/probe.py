"""Whether this kernel takes the nftables program at all, tried with the very rules and nothing left behind."""

from __future__ import annotations

import errno
import os

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.nftables.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.program.nftables.objects import DELETE_TABLE, Table
from nodeagent.program.nftables.program import program
from nodeagent.program.nftables.settings import Settings
from nodeagent.program.nftables.transaction import Batch

PROBE, NO_TABLE = "deltaplane-probe", "deltaplane-no-table"


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


def _offer(kernel: Kernel) -> None:
    batch = Batch(PROBE, 1)
    batch.install(program(4, Settings(table=PROBE)))
    batch.add(DELETE_TABLE, 0, 4, Table(4, NO_TABLE).attributes())
    replies = kernel.commit(batch.data(), batch.first, batch.last)
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
