"""Whether this kernel takes the nftables program at all, tried with the very rules and nothing left behind."""

from __future__ import annotations

import errno
import os

from nodeagent.dataplane.nftables.program import SAMPLES, program
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.nft import tables
from nodeagent.linux.nft.kernel import Kernel, unavailable

PARTS = (*SAMPLES, "firewall/sample")


def probe(kernel: Kernel | None = None) -> None:
    """Offers the IPv4 program with one of each kind of shared chain. Raises DataplaneUnavailable."""
    batch, proposed = tables.trial(), program(4, Settings(table=tables.TRIED))
    batch.install(proposed)
    for part in proposed.samples(*PARTS):  # what is made when a Service needs it
        batch.part(4, part)
    code = tables.offered(batch, kernel)
    if code in (errno.EPERM, errno.EACCES, errno.EPROTONOSUPPORT):
        raise unavailable(OSError(code, os.strerror(code)), tables.TRIED)
    if code:
        raise DataplaneUnavailable(
            f"nftables: this kernel refuses a part of the rules ({os.strerror(code)}): "
            "it needs nf_tables with NAT, maps and fib (Linux 5.13 or newer), or another proxy mode"
        )
