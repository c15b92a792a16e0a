"""What the kernel has of ours in one family: hashes of chains that are written whole, lines of chains that are shared.

Filled from `iptables-save` at the start and by what was restored since; `tracker` compares with it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.base import HOOKS, KUBELETS, SHARED
from nodeagent.dataplane.iptables.rules import LAST
from nodeagent.linux.iptables.saved import Line, Listing

_WHOLE = frozenset({(n.NAT, n.POSTROUTING), (n.NAT, n.MARK_MASQ), (n.FILTER, n.FORWARD)})
_SHARED = frozenset(SHARED)
_UNCOUNTED = (n.FILTER, n.KUBELET_FIREWALL)  # the kubelet's too
_HOOKS = frozenset(HOOKS) | frozenset(KUBELETS)

_BITS = 20  # of a digest that say how many rules there are


def digest(name: str, rules: Collection[str]) -> int:
    """A chain's content in few bytes; only compared within this process. The order of source ranges is no content."""
    content = hash(tuple(sorted(rules) if name.startswith(n.FW) else rules))
    return content << _BITS | min(len(rules), (1 << _BITS) - 1)


def _size(content: int) -> int:
    """How many rules a chain with this digest has."""
    return content & (1 << _BITS) - 1


class Tables:
    """One family. Notes what was done to the kernel, and changes nothing there."""

    def __init__(self) -> None:
        self._rules = dict.fromkeys(n.TABLES, 0)  # in the chains that are written whole
        self.chains: dict[str, dict[str, int]] = {table: {} for table in n.TABLES}
        self.shared: dict[tuple[str, str], dict[str, None]] = {}  # absent: so is the chain
        self.hooks: set[Line] = set()
        self.muddled: set[tuple[str, str]] = set()  # shared chains that have a line twice: to be written anew

    def adopt(self, table: str, found: Listing) -> None:
        """Takes over a table as it was listed."""
        for name, rules in found.items():
            if (table, name) in _SHARED:
                self.shared[table, name] = dict.fromkeys(rules)
                if len(self.shared[table, name]) != len(rules):
                    self.muddled.add((table, name))
            elif name == n.CANARY or (table, name) in _WHOLE or (table == n.NAT and n.is_of_services(name)):
                self.put(table, name, digest(name, rules))
            else:
                self.hooks.update(_HOOKS.intersection(Line(table, name, rule) for rule in rules))

    @property
    def anything(self) -> bool:
        """Whether there is any Service in it."""
        ours = (rule for where, rule in self.lines() if where[1] != n.KUBELET_FIREWALL and LAST not in rule)
        return any(ours) or any(map(n.is_of_services, self.chains[n.NAT]))

    def lines(self) -> Iterator[tuple[tuple[str, str], str]]:
        """Every line of the shared chains, with where it stands."""
        return ((where, rule) for where, rules in self.shared.items() for rule in rules)

    def has(self, line: Line) -> bool:
        return line.rule in self.shared.get((line.table, line.chain), ())

    def rules(self, table: str) -> int:
        """How many rules of a table are ours, as kube-proxy counts its own: without the jumps from others' chains."""
        shared = (len(held) for where, held in self.shared.items() if where[0] == table and where != _UNCOUNTED)
        return self._rules[table] + sum(shared)

    # ------------------------------------------------------------ what was done

    def put(self, table: str, name: str, content: int) -> None:
        self._rules[table] += _size(content) - _size(self.chains[table].get(name, 0))
        self.chains[table][name] = content

    def drop(self, table: str, name: str) -> None:
        self._rules[table] -= _size(self.chains[table].pop(name, 0))

    def add(self, line: Line) -> None:
        self.shared.setdefault((line.table, line.chain), {})[line.rule] = None

    def remove(self, line: Line) -> None:
        self.shared[line.table, line.chain].pop(line.rule, None)

    def empty(self, table: str, name: str) -> None:
        """A shared chain is there, and has nothing."""
        self.shared[table, name] = {}
        self.muddled.discard((table, name))

    def hook(self, line: Line) -> None:
        self.hooks.add(line)
