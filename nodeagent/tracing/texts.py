"""Rules by their numbers as text, by the programs of this machine: `iptables` for its tables, `nft` for others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from nodeagent.errors import AgentError
from nodeagent.linux.iptables.programs import Flavour, Tools, run, which
from nodeagent.linux.iptables.saved import TABLES
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects
from nodeagent.linux.nft.expressions import LAYOUTS, NFPROTO
from nodeagent.linux.nft.kernel import Kernel
from nodeagent.tracing.flow import Shown, Step

_LISTED = re.compile(r"^\s*(.*?) # handle (\d+)$", re.MULTILINE)
_BY_IPTABLES = (*TABLES, "raw", "security")
_FAMILIES = {layout.name: family for family, layout in LAYOUTS.items()}
Chain = tuple[str, str]


class Texts:
    """Each chain is listed once. A rule that no program can show is told by its number."""

    def __init__(self, kernel: Kernel) -> None:
        self._kernel = kernel
        self._known: dict[Chain, dict[int, str]] = {}

    def shown(self, steps: Iterable[Step]) -> tuple[Shown, ...]:
        return tuple(Shown(each.table, each.chain, self._text(each), each.verdict) for each in steps)

    def _text(self, step: Step) -> str:
        if not step.handle:
            return "(policy)"
        where = step.table, step.chain
        if where not in self._known:
            self._known[where] = self._listed(*where)
        return self._known[where].get(step.handle, f"rule {step.handle}")

    def _listed(self, table: str, chain: str) -> dict[int, str]:
        layout, _, name = table.partition(" ")
        family = _FAMILIES.get(layout)
        if name in _BY_IPTABLES and family is not None:
            return self._by_iptables(family, name, chain)
        return _by_nft(layout, name, chain)

    def _by_iptables(self, family: int, table: str, chain: str) -> dict[int, str]:
        """The program lists rules in the kernel's order, without numbers."""
        tools = Tools(Flavour.NFT)
        try:
            rules = tools.chain(family, table, chain) or []
        except (AgentError, KeyError):
            return {}
        finally:
            tools.close()
        handles = self._handles(family, table, chain)
        return dict(zip(handles, rules, strict=True)) if len(handles) == len(rules) else {}

    def _handles(self, family: int, table: str, chain: str) -> Sequence[int]:
        body = wire.text(1, table) + wire.text(2, chain)
        asked = wire.request(objects.GET_RULE, wire.DUMP, 0, NFPROTO[family], body)
        found = [wire.attributes(message.body) for message in self._kernel.ask(asked)]
        mine = (each for each in found if (wire.as_text(each[1]), wire.as_text(each[2])) == (table, chain))
        return [wire.as_number(each[3]) for each in mine]


def _by_nft(layout: str, table: str, chain: str) -> dict[int, str]:
    program = which("nft")
    if program is None:
        return {}
    try:
        code, output, _ = run([program, "-a", "list", "chain", layout, table, chain], "")
    except OSError:
        return {}
    return {} if code else {int(handle): text for text, handle in _LISTED.findall(output)}
