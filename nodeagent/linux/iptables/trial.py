"""Whether this machine takes rules of some kinds: by writing one of each, and taking it away again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import closing
from itertools import pairwise

from nodeagent.linux.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.flavour import detect
from nodeagent.linux.iptables.programs import Flavour, Iptables, Tools
from nodeagent.linux.iptables.removal import drop_empty, tables_there

CHAIN = "DELTAPLANE-PROBE"
_QUOTED = re.compile(r'"[^"]*"')
_OPTIONS = ("--random-fully",)

Rule = tuple[str, str]  # table, rule


def probe(rules: Iterable[Rule], flavour: Flavour | None = None) -> None:
    """Tries IPv4 rules. Raises DataplaneUnavailable with the reason.

    Leaves nothing behind but, in legacy, the loaded module.
    """
    with closing(Tools(flavour or detect())) as tools:
        if not tools.has(4):
            raise DataplaneUnavailable(
                f"iptables: iptables-{tools.flavour.value}-restore and -save are not installed: install iptables"
            )
        try:
            _try(tools, list(rules))
        except KernelUnavailable as error:
            raise DataplaneUnavailable(str(error)) from error


def _try(tools: Iptables, rules: list[Rule]) -> None:
    nft = tools.flavour is Flavour.NFT
    before = tables_there(tools.flavour, 4) if nft else ()
    refusal = tools.attempt(4, trial(rules))
    if refusal is not None:
        raise DataplaneUnavailable(
            f"iptables: the {tools.flavour.value} programs cannot write what is needed ({refusal.text}): "
            "give the agent CAP_NET_ADMIN and CAP_NET_RAW, load the modules, or choose another proxy mode"
        )
    for table in dict.fromkeys(table for table, _ in rules):
        if nft and table not in before:
            drop_empty(4, table)


def trial(rules: Iterable[Rule]) -> str:
    """A restore of these rules in a chain that nothing leads to, made and, in the next transaction, taken away."""
    given = list(rules)
    lines: list[str] = []
    for table in dict.fromkeys(table for table, _ in given):
        added = (f"-A {CHAIN} {rule}" for where, rule in given if where == table)
        lines += (f"*{table}", f":{CHAIN} - [0:0]", *added, "COMMIT")
        lines += (f"*{table}", f":{CHAIN} - [0:0]", f"-X {CHAIN}", "COMMIT")
    return "\n".join((*lines, ""))


def kinds(table: str, rule: str) -> set[Rule]:
    """Of one rule: its matches and its target with the table, and the option of one that not every kernel has."""
    words = _QUOTED.sub("", rule).split()
    pairs = list(pairwise(words))
    found = {word for before, word in pairs if before == "-m"}
    found |= {word for before, word in pairs if before == "-j" and not word.startswith(("KUBE-", "DELTAPLANE-"))}
    return {(table, kind) for kind in (*found, *(option for option in _OPTIONS if option in words))}
