"""Our chains read back for people, as `nodeagent.dataplane.read_back` has frontends and members. Changes nothing.

What a frontend is, is read from rules, whether they are those that are wanted or those that the kernel lists: from the
lines of the shared chains that are about its address and port, along the chains that they lead to. No other chain is
asked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from ipaddress import ip_address

from deltaplane.forwarding import ServiceForwarding, Target
from nodeagent.dataplane.frontend_key import held, identity
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.base import HOOKS, Base
from nodeagent.dataplane.iptables.frontends import frontend_of
from nodeagent.dataplane.iptables.render import Rendered
from nodeagent.dataplane.iptables.tables import digest
from nodeagent.dataplane.iptables.tracker import Tracker
from nodeagent.dataplane.read_back import Found, Written
from nodeagent.linux.iptables.programs import Iptables
from nodeagent.linux.iptables.saved import Line, listing, target

Rules = Callable[[str, str], Sequence[str]]
"""The rules of a chain by its table and name; none where it is not there."""

MOST = 32  # chains that are asked for one by one; with more, the table is listed once
_TO = re.compile(r"--to-destination (\S+)")
_UNCHAINED = ((n.FILTER, n.SERVICES), (n.FILTER, n.EXTERNAL_SERVICES), (n.FILTER, n.PROXY_FIREWALL))
_SHARED = (*_UNCHAINED, (n.NAT, n.SERVICES), (n.NAT, n.NODE_PORTS))


class Listed:
    """The kernel's rules, each chain asked for once. Raises KernelUnavailable."""

    def __init__(self, kernel: Iptables, family: int) -> None:
        self._kernel, self._family = kernel, family
        self._known: dict[tuple[str, str], Sequence[str]] = {}
        self._whole: dict[str, Mapping[str, Sequence[str]]] = {}

    def __call__(self, table: str, chain: str) -> Sequence[str]:
        if table in self._whole:
            return self._whole[table].get(chain, ())
        found = self._known.get((table, chain))
        if found is None:
            if len(self._known) >= MOST:
                self._whole[table] = listing(self._kernel.save(self._family, table))
                return self._whole[table].get(chain, ())
            found = self._known[table, chain] = self._kernel.chain(self._family, table, chain) or ()
        return found


class _Wanted:
    """The rules that are to be there for some Services, and the base."""

    def __init__(self, rendered: Iterable[Rendered], base: Base) -> None:
        self.chains: dict[str, tuple[str, ...]] = {}
        self._shared: dict[tuple[str, str], list[str]] = {}
        for each in rendered:
            self.chains.update(each.chains)
            for line in each.lines:
                self._shared.setdefault((line.table, line.chain), []).append(line.rule)
        self.base = base

    def __call__(self, table: str, chain: str) -> Sequence[str]:
        own = self.chains.get(chain) if table == n.NAT else None
        return self._shared.get((table, chain), ()) if own is None else own


class _Believed:
    """The rules that the agent believes to be there: of chains it knows no more than whether they are as wanted."""

    def __init__(self, tracker: Tracker, wanted: _Wanted) -> None:
        self._tables, self._wanted = tracker.tables, wanted

    def __call__(self, table: str, chain: str) -> Sequence[str]:
        shared = self._tables.shared.get((table, chain))
        if shared is not None:
            return tuple(shared)
        rules = self._wanted.chains.get(chain, ())
        return rules if self._tables.chains[table].get(chain) == digest(chain, rules) else ()


class Reading:
    """One family, for the Services in question."""

    def __init__(self, tracker: Tracker, keys: Iterable[bytes], services: Sequence[ServiceForwarding]) -> None:
        self.family = tracker.family
        self._tracker, self._keys = tracker, [key for key in keys if key[0] == tracker.family]
        self._wanted = _Wanted((tracker.rendered(each) for each in services), tracker.base())
        self._services = services

    def wanted(self) -> Found:
        """What is to be there."""
        keys = (identity(entry) for each in self._services for entry in each.entries)
        mine = [key for key in keys if key[0] == self.family]
        base = self._wanted.base
        lines = [*base.lines, *(base.node_ports or ()), *HOOKS]
        chains = [_chain_name(self.family, *where) for where in base.chains if where[1] != n.CANARY]
        return self._found(mine, self._wanted, {*chains, *(_line_name(self.family, line) for line in lines)})

    def account(self) -> Found:
        """What the agent believes."""
        return self._found(self._keys, _Believed(self._tracker, self._wanted), set())

    def look(self, rules: Rules) -> Found:
        """What the kernel has."""
        return self._found(self._keys, rules, set(self._base(rules)))

    def _found(self, keys: Iterable[bytes], rules: Rules, members: set[str]) -> Found:
        found = {key: written(key, rules, self._wanted.chains) for key in keys}
        return Found({key: each for key, each in found.items() if each is not None}, frozenset(members))

    def _base(self, rules: Rules) -> Iterator[str]:
        """What of the base is there, and rules in the shared chains that are nobody's."""
        family, base = self.family, self._wanted.base
        for where, wanted in base.chains.items():
            if where[1] != n.CANARY and tuple(rules(*where)) == tuple(wanted):
                yield _chain_name(family, *where)
        lines = [*base.lines, *(base.node_ports or ()), *HOOKS]
        yield from (_line_name(family, line) for line in lines if line.rule in rules(line.table, line.chain))
        ours = set(lines)
        for table, chain in _SHARED:
            for rule in rules(table, chain):
                if Line(table, chain, rule) not in ours and frontend_of(family, rule) is None:
                    yield _line_name(family, Line(table, chain, rule))


def written(key: bytes, rules: Rules, wanted: Mapping[str, Sequence[str]]) -> Written | None:
    """What the rules say of a frontend; None: nothing. `wanted`: chains that are to be there, to tell others by."""
    asked = held(key)
    shared = n.SERVICES if asked.address else n.NODE_PORTS

    def lines(table: str, chain: str) -> list[str]:
        return [rule for rule in rules(table, chain) if frontend_of(asked.family, rule) == asked]

    ways = list(dict.fromkeys(target(rule) for rule in lines(n.NAT, shared)))
    refusals = [target(rule) for where in _UNCHAINED[:2] for rule in lines(*where)]
    if not ways and not refusals:
        return None
    walk = _Walk(rules, wanted)
    for way in ways:
        walk.along(way)
    targets = walk.ends(n.SVC) if any(name.startswith((n.EXT, n.FW, n.SVC)) for name in ways) else walk.ends(n.SVL)
    local = walk.ends(n.SVL) if any(name.startswith((n.EXT, n.FW)) for name in ways) else ()
    guarded = [f"others dropped by {n.PROXY_FIREWALL}"] * bool(lines(*_UNCHAINED[2]))
    said = ", ".join([*(f"chain {name}" for name in ways), *guarded, *walk.strange])
    return Written(targets, local, _refusal(refusals), said)


def _refusal(targets: Iterable[str]) -> str:
    return next(("reject" if each == "REJECT" else "drop" for each in targets), "")


class _Walk:
    """The chains that some rules lead to. `strange`: in what they are not as wanted."""

    def __init__(self, rules: Rules, wanted: Mapping[str, Sequence[str]]) -> None:
        self._rules, self._wanted = rules, wanted
        self._seen: dict[str, Sequence[str]] = {}
        self.strange: list[str] = []

    def along(self, chain: str) -> None:
        """This chain and all behind it."""
        if chain in self._seen or not n.is_of_services(chain):
            return
        rules = self._seen[chain] = self._rules(n.NAT, chain)
        if chain in self._wanted and digest(chain, tuple(rules)) != digest(chain, tuple(self._wanted[chain])):
            self.strange.append(_difference(chain, rules, self._wanted[chain]))
        for rule in rules:
            self.along(target(rule))

    def ends(self, prefix: str) -> tuple[Target, ...]:
        """The endpoints behind chains of this kind."""
        return tuple(sorted({end for name in self._seen if name.startswith(prefix) for end in self._ends(name)}))

    def _ends(self, chain: str) -> Iterator[Target]:
        for rule in self._seen[chain]:
            for inner in self._seen.get(target(rule), ()):
                if found := _TO.search(inner):
                    address, _, port = found[1].rpartition(":")
                    yield Target(ip_address(address.strip("[]")).packed, int(port))


def _difference(chain: str, there: Sequence[str], wanted: Sequence[str]) -> str:
    more = next((rule for rule in there if rule not in wanted), "")
    less = next((rule for rule in wanted if rule not in there), "")
    said = f"has {more!r}" if more else f"lacks {less!r}" if less else "has its rules in another order"
    return f"chain {chain} {said}"


def _chain_name(family: int, table: str, chain: str) -> str:
    return f"chain {chain} of IPv{family}'s table {table} as it is written"


def _line_name(family: int, line: Line) -> str:
    return f"rule {line.rule!r} in chain {line.chain} of IPv{family}'s table {line.table}"
