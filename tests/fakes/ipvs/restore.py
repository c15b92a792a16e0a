"""Rules in memory, changed by the text that `iptables-restore --noflush` takes: for the kernel in memory."""

from __future__ import annotations

import errno

_BUILT_IN = {
    "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
    "filter": ("INPUT", "FORWARD", "OUTPUT"),
}


class Rules:
    """Rules by table and chain; a text is taken whole or not at all."""

    def __init__(self) -> None:
        self.tables: dict[str, dict[str, list[str]]] = {
            table: {chain: [] for chain in chains} for table, chains in _BUILT_IN.items()
        }

    def restore(self, text: str) -> None:
        """Raises OSError at the first line that cannot be."""
        tables = {table: {chain: [*rules] for chain, rules in held.items()} for table, held in self.tables.items()}
        chains: dict[str, list[str]] = {}
        for line in text.removesuffix("\n").split("\n"):
            if line.startswith("*"):
                chains = tables[line[1:]]
            elif line != "COMMIT":
                _change(chains, line)
        self.tables = tables

    def saved(self) -> str:
        """As `iptables-save` prints it."""
        lines = []
        for table, chains in self.tables.items():
            built_in = _BUILT_IN[table]
            lines.append(f"*{table}")
            lines += [f":{chain} {'ACCEPT' if chain in built_in else '-'} [0:0]" for chain in chains]
            lines += [f"-A {chain} {rule}" for chain, rules in chains.items() for rule in rules]
            lines.append("COMMIT")
        return "\n".join(lines)


def _change(chains: dict[str, list[str]], line: str) -> None:
    if line.startswith(":"):
        chains[line[1:].partition(" ")[0]] = []
        return
    command, _, rest = line.partition(" ")
    chain, _, rule = rest.partition(" ")
    if chain not in chains:
        raise OSError(errno.EINVAL, f"no chain {chain}")
    if command == "-A":
        chains[chain].append(rule)
    elif command == "-I":
        place, _, rule = rule.partition(" ")
        chains[chain].insert(int(place) - 1, rule)
    elif command == "-D":
        chains[chain].remove(rule)
    elif command == "-X":
        del chains[chain]
