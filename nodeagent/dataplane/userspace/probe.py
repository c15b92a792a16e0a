"""Whether this machine can bring traffic to listeners of ours, really tried, with nothing left behind."""

from __future__ import annotations

import errno
import os

from nodeagent.dataplane.iptables import probe as iptables
from nodeagent.dataplane.iptables.tools import Flavour
from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.dataplane.userspace.program import program
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.nft.objects import DELETE_TABLE, Table

PROBE, NO_TABLE = "deltaplane-probe", "deltaplane-no-table"
USUAL = ("nft", "iptables", "direct")  # best first; iptables in the flavour that this machine uses
WAYS = ("nft", "iptables", "iptables-nft", "iptables-legacy", "direct")


def probe(settings: Settings | None = None) -> None:
    """Raises DataplaneUnavailable where no way works that these settings allow; the last resort always does."""
    first_working(settings or Settings())


def first_working(settings: Settings) -> tuple[str, tuple[str, ...]]:
    """The way to take, and why none before it. Raises DataplaneUnavailable."""
    if settings.redirect and settings.redirect not in WAYS:
        raise DataplaneUnavailable(f"userspace: no way to redirect is called {settings.redirect!r}: {', '.join(WAYS)}")
    reasons: list[str] = []
    for name in (settings.redirect,) if settings.redirect else USUAL:
        try:
            _try(name)
        except DataplaneUnavailable as error:
            reasons.append(str(error))
        else:
            return name, tuple(reasons)
    raise DataplaneUnavailable("; ".join(reasons))


def _try(name: str) -> None:
    """Raises DataplaneUnavailable."""
    if name == "nft":
        probe_nft()
    elif name != "direct":
        _, _, flavour = name.partition("-")
        iptables.probe(Flavour(flavour) if flavour else None)


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
