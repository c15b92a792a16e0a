"""iptables in memory: takes the same restore input as the programs and refuses what they would refuse.

For tests and experiments, in place of the real programs (`nodeagent.linux.iptables.programs`); the same cases run
against all. Each table's part of an input is a transaction. Evaluating packets is `trace`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.dataplane.iptables import naming as n
from nodeagent.linux.iptables.programs import Flavour, Refusal
from nodeagent.linux.iptables.saved import target

_HOOKS = {
    n.FILTER: ("INPUT", "FORWARD", "OUTPUT"),
    n.NAT: ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    n.MANGLE: ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
}
_VERDICTS = frozenset({"ACCEPT", "DROP", "RETURN", "REJECT", "MARK", "MASQUERADE", "DNAT"})
_LONGEST_NAME = 28

Chains = dict[str, list[str]]


class Refused(Exception):
    """A line that is not taken."""


class Killed(BaseException):
    """The end of the process, between two transactions."""


class _Draft(Chains):
    """A table within a transaction: a chain is copied when it is looked at, so that the old one stays as it was."""

    def __init__(self, chains: Chains) -> None:
        super().__init__(chains)
        self._copied: set[str] = set()

    def __getitem__(self, name: str) -> list[str]:
        if name not in self._copied:
            self._copied.add(name)
            self[name] = list(super().__getitem__(name))
        return super().__getitem__(name)

    def __setitem__(self, name: str, rules: list[str]) -> None:
        self._copied.add(name)
        super().__setitem__(name, rules)


class MemoryIptables:
    """Implements `programs.Iptables`. `refusing`: a complaint with which every restore is refused as a whole.

    `poison`: lines that have one of these texts in them are refused; `silent`: without telling which line it was.
    `unwritable`: families that can be listed, and of which every line is refused.
    """

    def __init__(self, families: Iterable[int] = (4, 6), flavour: Flavour = Flavour.NFT) -> None:
        self.flavour = flavour
        self.tables: dict[tuple[int, str], Chains] = {}
        self.refusing = ""
        self.poison: set[str] = set()
        self.silent = False
        self.unwritable: set[int] = set()
        self.inputs: list[tuple[int, str]] = []  # every restore: family and text
        self.listings = 0
        self.asked: list[tuple[int, str, str]] = []  # chains that were listed alone
        self.counting = False  # whether the kernel has counters
        self.counters: dict[str, int] = {}  # packets, by name
        self.commits = -1  # so many more, and then it is over; negative: no end
        self.over: BaseException = Killed()  # what happens then
        self.settings = {"net/netfilter/nf_conntrack_tcp_be_liberal": 0, "net/ipv4/conf/all/route_localnet": 0}
        for family in families:
            for table, hooks in _HOOKS.items():
                self.tables[family, table] = {hook: [] for hook in hooks}

    def has(self, family: int) -> bool:
        return (family, n.NAT) in self.tables

    def close(self) -> None:
        """Nothing to let go of."""

    def account(self, name: str) -> bool:
        if self.counting:
            self.counters.setdefault(name, 0)
        return self.counting

    def packets(self, name: str) -> int | None:
        return self.counters.get(name)

    def sysctl(self, name: str) -> int | None:
        return self.settings.get(name)

    def set_sysctl(self, name: str, value: int) -> str:
        if name not in self.settings:
            return "No such file or directory"
        self.settings[name] = value
        return ""

    def save(self, family: int, table: str) -> str:
        self.listings += 1
        chains = self.tables[family, table]
        heads = [f":{name} {'ACCEPT' if name in _HOOKS[table] else '-'} [0:0]" for name in chains]
        rules = [f"-A {name} {rule}" for name, held in chains.items() for rule in held]
        return "\n".join(("# Generated", f"*{table}", *heads, *rules, "COMMIT", "# Completed", ""))

    def chain(self, family: int, table: str, name: str) -> list[str] | None:
        self.asked.append((family, table, name))
        found = self.tables[family, table].get(name)
        return None if found is None else list(found)

    def attempt(self, family: int, text: str) -> Refusal | None:
        held, commits, self.commits = self.tables.copy(), self.commits, -1
        try:
            return self.restore(family, text)
        finally:
            self.tables, self.commits = held, commits
            self.inputs.pop()

    def restore(self, family: int, text: str) -> Refusal | None:
        self.inputs.append((family, text))
        if self.refusing:
            return Refusal(self.refusing, busy=True)
        if family in self.unwritable:
            return Refusal("unable to initialize table 'nat'", 1)
        table, chains, first = "", Chains(), 0
        for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
            if line.startswith("*"):
                table, first = line[1:], number
                chains = _Draft(self.tables[family, table])
                continue
            if line == "COMMIT":
                if not self.commits:
                    raise self.over
                self.commits -= 1
                self.tables[family, table] = dict(chains)
                continue
            try:
                self._run(table, chains, line)
            except Refused as reason:
                last = text.removesuffix("\n").split("\n").index("COMMIT", first) + 1
                where = last if self.silent else number
                return Refusal(f"line {where} failed: {reason}", where)
        return None

    def _run(self, table: str, chains: Chains, line: str) -> None:
        if any(text in line for text in self.poison):
            raise Refused("Invalid argument")
        if line.startswith(":"):
            self._declare(chains, line[1:].partition(" ")[0])
            return
        command, name, *rest = line.split(" ", 2)
        rule = rest[0] if rest else ""
        if name not in chains:
            raise Refused(f"Chain '{name}' does not exist")
        if command == "-X":
            self._delete(table, chains, name)
        elif command == "-D":
            if rule not in chains[name]:
                raise Refused("Bad rule (does a matching rule exist in that chain?)")
            chains[name].remove(rule)
        else:
            self._check(chains, rule)
            chains[name].insert(0 if command == "-I" else len(chains[name]), rule)

    @staticmethod
    def _declare(chains: Chains, name: str) -> None:
        if len(name) > _LONGEST_NAME:
            raise Refused("chain name too long")
        chains[name] = []

    @staticmethod
    def _delete(table: str, chains: Chains, name: str) -> None:
        if name in _HOOKS[table] or chains[name]:
            raise Refused("Directory not empty")
        if any(target(rule) == name for rules in chains.values() for rule in rules):
            raise Refused("Device or resource busy")
        del chains[name]

    @staticmethod
    def _check(chains: Chains, rule: str) -> None:
        to = target(rule)
        if to and to not in _VERDICTS and to not in chains:
            raise Refused(f"Chain '{to}' does not exist")
