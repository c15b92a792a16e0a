"""Taking away what was programmed, for `--cleanup`: our tables and, if asked, those of kube-proxy's nftables mode."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence

from nodeagent.dataplane.nftables.kernel import Kernel, NetlinkKernel
from nodeagent.dataplane.nftables.transaction import Batch
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.expressions import LAYOUTS, NFPROTO
from nodeagent.linux.nft.objects import DELETE_TABLE, GET_TABLE, Table

OURS, KUBE_PROXY = "deltaplane", "kube-proxy"


def cleanup(kernel: Kernel, tables: Sequence[str] = (OURS,)) -> tuple[str, ...]:
    """Deletes these tables in both families, each in a transaction of its own; which were there, such as "ip6 t".

    Tables that are not there are no error; nobody else's table is looked at. Raises KernelUnavailable.
    """
    found = []
    for name in tables:
        for family, layout in LAYOUTS.items():
            if kernel.has(family) and _delete(kernel, family, name):
                found.append(f"{layout.name} {name}")
    return tuple(found)


def present(names: Iterable[str]) -> bool:
    """Whether one of these tables is in this network namespace; false where that cannot be asked."""
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return False
    try:
        return any(_is_there(kernel, family, name) for name in names for family in LAYOUTS)
    finally:
        kernel.close()


def _is_there(kernel: Kernel, family: int, name: str) -> bool:
    body = Table(family, name).attributes()
    try:
        return bool(list(kernel.ask(wire.request(GET_TABLE, 0, 0, NFPROTO[family], body))))
    except OSError:
        return False


def _delete(kernel: Kernel, family: int, name: str) -> bool:
    batch = Batch(name, 1)
    batch.add(DELETE_TABLE, 0, family, Table(family, name).attributes())
    replies = kernel.commit(batch.data(), batch.first, batch.last)
    if not replies:
        return True
    code = replies[0].errno
    if code in (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
        return False
    raise KernelUnavailable(
        f"nftables: deleting table {LAYOUTS[family].name} {name} failed ({os.strerror(code)}): "
        "give the agent CAP_NET_ADMIN in this network namespace"
    )
