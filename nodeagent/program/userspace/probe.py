"""Whether this machine can bring traffic to listeners of ours, tried for real and with nothing left behind."""

from __future__ import annotations

import errno
import os

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.nftables.kernel import Kernel, NetlinkKernel
from nodeagent.program.nftables.objects import DELETE_TABLE, Table
from nodeagent.program.nftables.transaction import Batch
from nodeagent.program.userspace.program import program
from nodeagent.program.userspace.settings import Settings

PROBE, NO_TABLE = "deltaplane-probe", "deltaplane-no-table"


def probe() -> None:
    """Whether any way works, in the network namespace of the calling thread. Raises DataplaneUnavailable."""
    probe_nft()


def probe_nft(kernel: Kernel | None = None) -> None:
    """Offers the IPv4 program in a transaction whose last message must fail, so that none of it ever holds.

    Raises DataplaneUnavailable.
    """
    used = kernel or NetlinkKernel()
    batch = Batch(PROBE, 1)
    batch.install(program(4, Settings(table=PROBE)))
    batch.add(DELETE_TABLE, 0, 4, Table(4, NO_TABLE).attributes())
    try:
        replies = used.commit(batch.data(), batch.first, batch.last)
    except KernelUnavailable as error:
        raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
    finally:
        if kernel is None:
            used.close()
    if [(reply.sequence, reply.errno) for reply in replies] != [(batch.last, errno.ENOENT)]:
        code = replies[0].errno if replies else errno.EPROTO
        raise DataplaneUnavailable(
            f"userspace: this kernel refuses the nft redirects ({os.strerror(code)}): give the agent CAP_NET_ADMIN, "
            "load nf_tables with NAT, maps and fib, or install iptables"
        )
