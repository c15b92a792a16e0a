"""Redirects as iptables rules, each write one restore per family. Called by `dataplane` through `Redirects`.

What stands is `lines`'. What others change is noticed
when a restore contradicts it, and not before.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence

from nodeagent.dataplane.outcome import Drifted
from nodeagent.dataplane.userspace import lines as l
from nodeagent.dataplane.userspace.lines import FILTER, NAT, TOP
from nodeagent.dataplane.userspace.loopback import Home
from nodeagent.dataplane.userspace.redirects import Written
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import STANDS, Difference, Placement
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.flavour import detect
from nodeagent.linux.iptables.programs import Flavour, Iptables, Tools
from nodeagent.linux.iptables.saved import Line, Listing, deletion, listing, target

log = logging.getLogger(__name__)


class IptablesRedirects:
    """Implements `Redirects`. Without `tools`, this machine's, in the network namespace of the calling thread."""

    kind = "iptables"

    def __init__(self, settings: Settings, tools: Iptables | None = None, flavour: Flavour | None = None) -> None:
        self._tools = tools or Tools(flavour or detect())
        self._settings = settings
        self._home = Home(settings)
        self._make: dict[int, dict[str, Listing]] = {}  # families whose chains are to be made, and what is there
        self._foreign = False
        self.families = frozenset(family for family in (4, 6) if self._can(family))
        if 4 not in self.families:
            self.close()
            raise DataplaneUnavailable(f"userspace: iptables ({self._tools.flavour.value}) cannot list its nat table")

    def _can(self, family: int) -> bool:
        try:
            return self._tools.has(family) and bool(self._tools.save(family, NAT) and self._tools.save(family, FILTER))
        except KernelUnavailable as error:
            log.warning("userspace: IPv%d is left out: %s", family, error)
            return False

    @property
    def foreign(self) -> bool:
        return self._foreign

    def place(self, family: int) -> bytes:
        """The listeners' own address, which is there afterwards. Raises KernelUnavailable."""
        return self._home.place(family)

    def configure(self, settings: Settings) -> None:
        """Takes other settings; chains that differ are made anew with the next write. Raises ValueError."""
        for family in self.families:
            l.constant(family, settings)
        self._settings = settings

    # ------------------------------------------------------------ reading

    def read(self) -> dict[bytes, Placement]:
        """See `Redirects.read`."""
        standing: dict[bytes, Placement] = {}
        self._make.clear()
        self._foreign = False
        self._home.forget()
        try:
            for family in sorted(self.families):
                standing.update(self._read(family))
        except KernelUnavailable as error:
            raise DataplaneUnavailable(str(error).removesuffix("; it is retried")) from error
        except ValueError as error:
            raise DataplaneUnavailable(f"userspace: cluster CIDR: {error}: correct --cluster-cidr") from error
        return standing

    def _read(self, family: int) -> dict[bytes, Placement]:
        tables = {table: listing(self._tools.save(family, table)) for table in (NAT, FILTER)}
        ours = any(name.startswith(TOP) for found in tables.values() for name in found)
        if self._whole(family, tables):
            try:
                return l.slots(family, tables)
            except ValueError as error:
                log.warning("userspace: iptables chains of IPv%d are made anew: %s", family, error)
        self._make[family] = tables
        self._foreign |= ours
        return {}

    def _whole(self, family: int, tables: Mapping[str, Listing]) -> bool:
        """Whether the constant chains and the jumps are as we write them, and the others are there."""
        wanted = l.constant(family, self._settings)
        whole = all(tables[table].get(chain) == rules for (table, chain), rules in wanted.items())
        whole = whole and all(chain in tables[table] for table, chains in l.VARIABLE.items() for chain in chains)
        return whole and TOP in tables[FILTER] and _jumps(tables) == set(l.jumps(self._settings))

    def shows(self, member: bytes) -> bool:
        """See `Redirects.shows`."""
        return bool(l.lines(member, STANDS))

    def standing(self, slots: Iterable[bytes]) -> dict[bytes, Placement]:
        """See `Redirects.standing`: our chains alone are listed, and those of the kernel that lead to them."""
        asked = set(slots)
        found: dict[bytes, Placement] = {}
        for family in sorted(self.families & {slot[0] for slot in asked}):
            tables = {table: self._chains(family, table) for table in (NAT, FILTER)}
            if not self._whole(family, tables):
                raise ValueError(f"chains {TOP} of IPv{family} are not as the agent writes them")
            found.update((slot, placed) for slot, placed in l.slots(family, tables).items() if slot in asked)
        return found

    def _chains(self, family: int, table: str) -> Listing:
        constant = [chain for where, chain in l.constant(family, self._settings) if where == table]
        hooks = [line.chain for line in l.jumps(self._settings) if line.table == table]
        names = dict.fromkeys((TOP, *constant, *l.VARIABLE[table], *hooks))
        listed = {name: self._tools.chain(family, table, name) for name in names}
        return {name: rules for name, rules in listed.items() if rules is not None}

    # ------------------------------------------------------------ writing

    def write(self, differences: Sequence[Difference], into: Written, *, again: bool = False) -> None:
        """See `Redirects.write`. A family whose restore is refused is written one difference after the other."""
        for family in sorted(self.families):
            mine = [difference for difference in differences if difference.slot[0] == family]
            if mine or family in self._make:
                self._write(family, mine, into, again=again)

    def _write(self, family: int, differences: list[Difference], into: Written, *, again: bool) -> None:
        if self._restore(family, differences, into):
            return
        if not again:
            raise Drifted
        if family in self._make and not self._restore(family, [], into):
            raise KernelUnavailable(f"userspace: iptables refuses our chains of IPv{family}; it is retried")
        for difference in differences:
            if not self._restore(family, [difference], into):
                into.refused.append((difference, f"iptables refuses its redirect ({self._said})"))

    def _restore(self, family: int, differences: list[Difference], into: Written) -> bool:
        """Whether it was done. Raises KernelUnavailable where nothing is wrong with the input."""
        changed = [line for difference in differences for line in _changes(difference)]
        text = "".join(self._table(family, table, changed) for table in (NAT, FILTER))
        refusal = self._tools.restore(family, text) if text else None
        if refusal is not None and refusal.busy:
            raise KernelUnavailable(f"userspace: iptables-restore failed ({refusal.text}); it is retried")
        if refusal is not None:
            self._said = refusal.text
            return False
        self._make.pop(family, None)
        self._foreign = self._foreign and bool(self._make)
        into.done += differences
        into.sent.messages += text.count("\n")
        into.sent.elements += len(changed)
        into.sent.size += len(text)
        return True

    def _table(self, family: int, table: str, changed: Iterable[tuple[str, Line]]) -> str:
        made = self._made(family, table) if family in self._make else []
        written = made + [f"{how} {line.chain} {line.rule}" for how, line in changed if line.table == table]
        return "\n".join((f"*{table}", *written, "COMMIT", "")) if written else ""

    def _made(self, family: int, table: str) -> list[str]:
        """Our chains anew: whatever was in them goes in the same transaction."""
        wanted = {
            chain: rules for (where, chain), rules in l.constant(family, self._settings).items() if where == table
        }
        chains = dict.fromkeys((TOP, *wanted, *l.VARIABLE[table]))
        there, jumps = self._make[family][table], [line for line in l.jumps(self._settings) if line.table == table]
        stale = [deletion(chain, rule) for chain, rules in there.items() for rule in rules if _leads_in(chain, rule)]
        return [
            *(f":{chain} - [0:0]" for chain in chains),
            *stale,
            *(f"-A {chain} {rule}" for chain, rules in wanted.items() for rule in rules),
            *(f"-I {line.chain} {line.rule}" for line in reversed(jumps)),
        ]

    # ------------------------------------------------------------ others

    def fileno(self) -> int:
        return -1

    def drifted(self) -> bool:
        return False

    def close(self) -> None:
        self._tools.close()
        self._home.close()


def _changes(difference: Difference) -> list[tuple[str, Line]]:
    """What goes and what comes."""
    before, after = (l.lines(difference.slot, one) for one in (difference.before, difference.after))
    gone = [("-D", line) for line in before if line not in after]
    return gone + [("-A", line) for line in after if line not in before]


def _jumps(tables: Mapping[str, Listing]) -> set[Line]:
    return {
        Line(table, chain, rule)
        for table, chains in tables.items()
        for chain, rules in chains.items()
        for rule in rules
        if _leads_in(chain, rule)
    }


def _leads_in(chain: str, rule: str) -> bool:
    """Whether a rule of another program's chain goes to one of ours."""
    return not chain.startswith(TOP) and target(rule).startswith(TOP)
