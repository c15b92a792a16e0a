"""Other programs' nftables tables in the agent's answers: what they may do to a packet, and to whose."""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import ip_address
from typing import TYPE_CHECKING

from msgspec import Struct

from deltaplane.addresses import parse_address
from deltaplane.model import family_of
from deltaplane.v1 import agent_pb2, views_pb2
from nodeagent.errors import DataplaneUnavailable

if TYPE_CHECKING:
    from nodeagent.doctor.nftables import Nftables

READING = 2.0  # seconds
EVERY = "inet"  # the family of tables that see both


class Way(Struct, frozen=True):
    """Of a connection and its answers. `family`: of the tables that see it alone, ip or ip6."""

    family: str
    from_node: bool
    to_node: bool

    @classmethod
    def of(cls, found: views_pb2.Explanation, own: Collection[bytes]) -> Way:
        """`own`: this machine's addresses, packed. What reaches no endpoint may end at the node itself."""
        source = parse_address(found.connection.source)
        endpoints = [parse_address(each.endpoint.rpartition(":")[0].strip("[]")) for each in found.choices]
        to_node = not endpoints or any(each in own for each in endpoints)
        from_node = source in own or ip_address(source).is_loopback
        return cls("ip6" if family_of(source) == 6 else "ip", from_node, to_node)

    def may_meet(self, table: str, hook: str = "") -> bool:
        """Whether a packet may be seen by a base chain at this hook, of this table; no hook: by any."""
        if table.partition(" ")[0] not in (EVERY, self.family):
            return False
        if hook == "forward":
            return not self.from_node
        return hook != "output" or self.from_node or self.to_node


def read() -> Nftables:
    """This node's nftables, as far as they are read within `READING`."""
    from nodeagent.doctor.nftables import read  # noqa: PLC0415 - no agent loads the doctor when it starts

    return read(most=READING)


def note_foreign(
    found: agent_pb2.GetAgentResponse | agent_pb2.ExplainHereResponse,
    concerns: Callable[[str, str], bool] = lambda *_: True,
    read: Callable[[], Nftables] = read,
) -> None:
    """Adds what other programs' nftables tables may do to packets, or why that could not be read.

    `concerns`: whether a table, and its base chain's hook (empty: any), is of this answer. In a thread: the kernel is
    asked for `READING` seconds at most. A name that is no UTF-8 is a ValueError.
    """
    try:
        known = read()
    except (OSError, ValueError, DataplaneUnavailable) as error:
        found.foreign_error = (error.strerror if isinstance(error, OSError) else "") or str(error)
        return
    found.kube_proxy_tables[:] = [table for table in known.kube_proxy if concerns(table, "")]
    for each in known.foreign:
        if concerns(each.table, each.point):
            found.foreign.add(table=each.table, chain=each.chain, hook=each.point, does=each.does)
