"""Tables read from the kernel, deleted, and tried: by name, whoever made them.

Reads list chains and elements of one table only. Everything that asks raises OSError with the kernel's errno.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing

from nodeagent.linux.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements, objects
from nodeagent.linux.nft.expressions import LAYOUTS, NFPROTO
from nodeagent.linux.nft.kernel import Kernel, NetlinkKernel, unavailable
from nodeagent.linux.nft.objects import Table
from nodeagent.linux.nft.transaction import Batch

_ABSENT = (errno.ENOENT, errno.EAFNOSUPPORT, errno.EOPNOTSUPP)  # the table, or the family
KUBE_PROXY = "kube-proxy"  # its own table in its nftables mode, in the families ip and ip6
TRIED, _NEVER = "deltaplane-probe", "deltaplane-no-table"

# ---------------------------------------------------------------- reading


def comment(kernel: Kernel, table: Table) -> str | None:
    """The comment of the table in the kernel; None where there is no table."""
    try:
        request = wire.request(objects.GET_TABLE, 0, 0, NFPROTO[table.family], wire.text(1, table.name))
        for message in kernel.ask(request):
            note = wire.attributes(message.body).get(6, b"")
            return wire.as_text(note[2:])
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return None


def chains(kernel: Kernel, table: Table) -> dict[str, int]:
    """The names of the table's chains, and how many rules each has."""
    found = {wire.as_text(attributes[3]): 0 for attributes in each(kernel, table, objects.GET_CHAIN)}
    for attributes in each(kernel, table, objects.GET_RULE):
        found[wire.as_text(attributes[2])] += 1
    return found


def rules_in(kernel: Kernel, table: Table, chain: str) -> int:
    """How many rules one chain has; 0 where it is not there."""
    body = wire.text(1, table.name) + wire.text(2, chain)
    found = kernel.ask(wire.request(objects.GET_RULE, wire.DUMP, 0, NFPROTO[table.family], body))
    names = (wire.attributes(message.body) for message in found)
    return sum((wire.as_text(each[1]), wire.as_text(each[2])) == (table.name, chain) for each in names)


def sets(kernel: Kernel, table: Table) -> set[str]:
    """The names of the table's sets and maps."""
    return {wire.as_text(attributes[2]) for attributes in each(kernel, table, objects.GET_SET)}


def each(kernel: Kernel, table: Table, operation: int) -> Iterator[dict[int, bytes]]:
    """The attributes of the table's chains, rules or sets; kernels that cannot filter list those of all tables."""
    body = wire.text(1, table.name)
    for message in kernel.ask(wire.request(operation, wire.DUMP, 0, NFPROTO[table.family], body)):
        attributes = wire.attributes(message.body)
        if wire.as_text(attributes[1]) == table.name:
            yield attributes


def listed(kernel: Kernel, table: Table, name: str) -> Iterator[tuple[bytes, bytes]]:
    """The elements of one set or map (`elements.parse`)."""
    for listing in packed_elements(kernel, table, name):
        yield from elements.parse(listing)


def element(kernel: Kernel, table: Table, name: str, key: bytes) -> bytes | None:
    """The data of one element of a set or map (`elements.parse`), asked for alone; None where it is not there."""
    body = wire.text(1, table.name) + wire.text(2, name) + wire.nest(3, elements.member(key))
    try:
        for message in kernel.ask(wire.request(objects.GET_ELEMENT, 0, 1, NFPROTO[table.family], body)):
            for _, data in elements.parse(wire.attributes(message.body).get(3, b"")):
                return data
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise
    return None


def packed_elements(kernel: Kernel, table: Table, name: str) -> Iterator[bytes]:
    """The same, as lists of packed elements."""
    body = wire.text(1, table.name) + wire.text(2, name)
    for message in kernel.ask(wire.request(objects.GET_ELEMENT, wire.DUMP, 0, NFPROTO[table.family], body)):
        yield wire.attributes(message.body).get(3, b"")


def is_there(kernel: Kernel, table: Table) -> bool:
    """Whether the kernel has a table of this name."""
    return _answers(kernel, objects.GET_TABLE, table, b"")


def has_chain(kernel: Kernel, table: Table, name: str) -> bool:
    """Whether the table has a chain; without listing the table."""
    return _answers(kernel, objects.GET_CHAIN, table, wire.text(3, name))


def _answers(kernel: Kernel, operation: int, table: Table, more: bytes) -> bool:
    body = wire.text(1, table.name) + more
    try:
        return next(kernel.ask(wire.request(operation, 0, 1, NFPROTO[table.family], body)), None) is not None
    except OSError as error:
        if error.errno in _ABSENT:
            return False
        raise


def any_there(names: Iterable[str]) -> bool:
    """Whether one of these tables is in this network namespace; false where that cannot be asked. Never raises."""
    try:
        with closing(NetlinkKernel()) as kernel:
            return any(is_there(kernel, Table(family, name)) for name in names for family in LAYOUTS)
    except (DataplaneUnavailable, OSError):
        return False


# ---------------------------------------------------------------- deleting


def delete(kernel: Kernel, names: Sequence[str]) -> tuple[str, ...]:
    """Deletes these tables in both families, each in a transaction of its own; which were there, such as "ip6 t".

    Tables that are not there are no error; no other table is looked at. Raises KernelUnavailable.
    """
    return tuple(
        f"{layout.name} {name}"
        for name in names
        for family, layout in LAYOUTS.items()
        if kernel.has(family) and _delete(kernel, family, name)
    )


def delete_here(*names: str) -> tuple[str, ...]:
    """The same in the calling thread's network namespace, such as "nftables ip6 t". Raises AgentError."""
    try:
        kernel = NetlinkKernel()
    except DataplaneUnavailable:
        return ()  # where there is no nftables, nothing was left in it
    with closing(kernel):
        try:
            return tuple(f"nftables {found}" for found in delete(kernel, names))
        except OSError as error:
            raise unavailable(error, names[0]) from error


def _delete(kernel: Kernel, family: int, name: str) -> bool:
    batch = Batch(name, 1)
    batch.add(objects.DELETE_TABLE, 0, family, Table(family, name).attributes())
    replies = kernel.commit(batch.data(), batch.first, batch.last)
    if not replies:
        return True
    code = replies[0].errno
    if code in _ABSENT:
        return False
    raise KernelUnavailable(
        f"nftables: deleting table {LAYOUTS[family].name} {name} failed ({os.strerror(code)}): "
        "give the agent CAP_NET_ADMIN in this network namespace"
    )


# ---------------------------------------------------------------- trying


def trial() -> Batch:
    """A transaction for `offered`."""
    return Batch(TRIED, 1)


def offered(batch: Batch, kernel: Kernel | None = None) -> int:
    """Why the kernel refuses a transaction on the table `TRIED`, as an errno; 0: it takes it.

    The last message must fail, so that nothing of it ever holds: no packet meets it, no listener hears of it. Raises
    DataplaneUnavailable.
    """
    with ExitStack() as opened:
        used = kernel or opened.enter_context(closing(NetlinkKernel()))
        batch.add(objects.DELETE_TABLE, 0, 4, Table(4, _NEVER).attributes())
        try:
            replies = used.commit(batch.data(), batch.first, batch.last)
        except KernelUnavailable as error:
            raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
    refused = next((reply.errno for reply in replies if reply.sequence != batch.last), 0)
    if not refused and [reply.errno for reply in replies] == [errno.ENOENT]:
        return 0
    return refused or (replies[0].errno if replies else errno.EPROTO)


def are_supported() -> bool:
    """Whether this kernel takes IPv4 tables at all, whatever is in them."""
    batch = trial()
    batch.add(objects.NEW_TABLE, wire.CREATE, 4, Table(4, TRIED).attributes())
    try:
        return not offered(batch)
    except DataplaneUnavailable:
        return False
