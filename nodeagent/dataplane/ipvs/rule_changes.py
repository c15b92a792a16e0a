"""From what `iptables-save` prints to what makes the rules of the mode stand, or go, by `iptables-restore`. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from nodeagent.dataplane.ipvs.rules import CHAINS, Jump, Table, tables
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.linux.iptables import saved as iptables
from nodeagent.linux.iptables.saved import deletion, jumps_to, target


class Kept(NamedTuple):
    """What another mode needs of the chains that have the same names, and the jumps that it makes itself."""

    chains: Mapping[str, Collection[str]] = {}  # by table
    jumps: Collection[tuple[str, str, str]] = ()  # table, chain, rule


NOTHING = Kept()


def difference(wanted: Mapping[str, Table], saved: str) -> str:
    """What `iptables-restore --noflush` is to be given so that the kernel has these tables; empty: it has them.

    Jumps to chains of ours that we do not make are another mode's, which has chains of the same names: they go.
    """
    chains, texts = iptables.tables(saved), []
    for table, (ours, jumps) in wanted.items():
        found = chains.get(table, {})
        changed = [chain for chain, rules in ours.items() if found.get(chain) != list(rules)]
        lines = [f":{chain} - [0:0]" for chain in changed]
        lines += [f"-A {chain} {rule}" for chain in changed for rule in ours[chain]]
        lines += [deletion(*jump) for jump in jumps_to(ours, found) if Jump(*jump) not in jumps]
        missing = [jump for jump in jumps if jump.rule not in found.get(jump.chain, ())]
        lines += [f"-I {jump.chain} 1 {jump.rule}" for jump in reversed(missing)]
        if lines:
            texts.append("\n".join([f"*{table}", *lines, "COMMIT\n"]))
    return "".join(texts)


def is_another_modes(saved: str) -> bool:
    """Whether rules send Services' traffic somewhere now that are not ours: those of iptables or of userspace mode."""
    nat = iptables.tables(saved).get("nat", {})
    return any(name.startswith(("KUBE-SVC-", "DELTAPLANE-")) and found for name, found in nat.items())


def removal(saved: str, keep: Kept) -> tuple[str, tuple[str, ...]]:
    """What takes away every chain of ours with the jumps there, but those to `keep`; and the chains' names."""
    chains, made = iptables.tables(saved), tables(4, Settings())
    texts: list[str] = []
    gone: list[str] = []
    for table, ours in CHAINS.items():
        found = chains.get(table, {})
        there = [chain for chain in ours if chain in found and chain not in keep.chains.get(table, ())]
        jumps = [
            (chain, rule) for chain, rule in jumps_to(ours, found)
            if target(rule) in there
            or (Jump(chain, rule) in made[table].jumps and (table, chain, rule) not in keep.jumps)
        ]  # fmt: skip
        texts.append(iptables.removal(table, there, jumps))
        gone += [f"{table} {chain}" for chain in there]
    return "".join(texts), tuple(gone)
