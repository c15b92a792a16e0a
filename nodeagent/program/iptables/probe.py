"""Whether this machine can do iptables mode: by doing it, with one of each kind of rule, and taking it away again."""

from __future__ import annotations

from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.program.iptables import naming as n
from nodeagent.program.iptables.empties import drop_empty, present
from nodeagent.program.iptables.flavour import detect
from nodeagent.program.iptables.rules import LOCAL_DESTINATION, REFUSE, chance, comment, recent
from nodeagent.program.iptables.tools import Flavour, Iptables, Tools

_CHAIN = "DELTAPLANE-PROBE"


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
    """IPv4 alone decides: without IPv6 that family is left out."""
    nft = tools.flavour is Flavour.NFT
    before = present(4) if nft else frozenset(n.TABLES)
    refusal = tools.restore(4, trial())
    if refusal is not None:
        raise DataplaneUnavailable(
            f"iptables: the {tools.flavour.value} programs cannot write what is needed ({refusal.text}): "
            "give the agent CAP_NET_ADMIN and CAP_NET_RAW, load the modules, or choose another proxy mode"
        )
    for table in (n.NAT, n.FILTER):
        if table not in before:
            drop_empty(4, table)


def trial() -> str:
    """A chain that nothing leads to, made and, in the next transaction, taken away; in both tables."""
    nat = (
        f"-p tcp {comment('a probe')}{LOCAL_DESTINATION}-m tcp --dport 1 -j RETURN",
        f"{chance(3)}-j RETURN",
        f"{recent(4, '--rcheck --seconds 1 --reap', _CHAIN)}-j RETURN",
        "-j MARK --set-xmark 0x4000/0x4000",
        "-p tcp -m tcp -j DNAT --to-destination 192.0.2.1:1",
    )
    filters = (f"-m conntrack --ctstate NEW {REFUSE[4]}", "-m mark --mark 0x4000/0x4000 -j ACCEPT")
    lines: list[str] = []
    for table, rules in ((n.FILTER, filters), (n.NAT, nat)):
        lines += (f"*{table}", f":{_CHAIN} - [0:0]", *(f"-A {_CHAIN} {rule}" for rule in rules), "COMMIT")
        lines += (f"*{table}", f":{_CHAIN} - [0:0]", f"-X {_CHAIN}", "COMMIT")
    return "\n".join((*lines, ""))
