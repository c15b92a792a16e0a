"""Whether this machine can do iptables mode: by doing it, with one of each kind of rule, and taking it away again."""

from __future__ import annotations

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.flavour import detect
from nodeagent.dataplane.iptables.prune_tables import drop_empty, present
from nodeagent.dataplane.iptables.tools import Flavour, Iptables, Tools
from nodeagent.dataplane.iptables.trying import unwritable
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable


def probe(flavour: Flavour | None = None) -> None:
    """Raises DataplaneUnavailable with the reason. Leaves nothing behind but, in legacy, the loaded module."""
    tools = Tools(flavour or detect())
    try:
        if not tools.has(4):
            raise DataplaneUnavailable(
                f"iptables: iptables-{tools.flavour.value}-restore and -save are not installed: install iptables"
            )
        _try(tools)
    except KernelUnavailable as error:
        raise DataplaneUnavailable(str(error)) from error
    finally:
        tools.close()


def _try(tools: Iptables) -> None:
    """IPv4 alone decides, and what is required: without IPv6 that family is left out, without an option it is said."""
    nft = tools.flavour is Flavour.NFT
    before = present(4) if nft else frozenset(n.TABLES)
    refusal = unwritable(tools, 4)
    if refusal is not None:
        raise DataplaneUnavailable(
            f"iptables: the {tools.flavour.value} programs cannot write what is needed ({refusal.text}): "
            "give the agent CAP_NET_ADMIN and CAP_NET_RAW, load the modules, or choose another proxy mode"
        )
    for table in (n.NAT, n.FILTER):
        if table not in before:
            drop_empty(4, table)
