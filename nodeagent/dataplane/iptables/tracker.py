"""What is wanted of one family's chains, what the kernel has of it, and the changes that make the two one.

`dataplane` puts Services in and asks for the changes of those that differ. A Service is known by its forwarding alone;
its text is made when it is needed. Does not know programs or kernels.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from deltaplane.model import ObjectKey
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.base import HOOKS, KUBELETS, SHARED, Base, base
from nodeagent.dataplane.iptables.render import NOTHING, Rendered, render
from nodeagent.dataplane.iptables.rules import LAST
from nodeagent.dataplane.iptables.script import Change
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.iptables.tables import Tables, digest
from nodeagent.dataplane.tracker import NODE
from nodeagent.linux.iptables.saved import Line

MANY_ENDPOINTS = 1000  # above it, what leads to endpoints is written without comments (2.13)
_REWRITE = 64  # lines that go from one shared chain: with more it is shorter to write the chain anew
_UNCOMMENTED = (n.SVC, n.SVL, n.SEP)


class Holding(NamedTuple):
    """What of the kernel is one Service's. `comments`: how its chains are written, which stays so while they live."""

    chains: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    comments: bool = True


_NONE = Holding()


class Tracker:
    """One family. `dirty` are the objects that may differ, in the order they were put in."""

    def __init__(self, family: int, settings: Settings) -> None:
        self.family, self.settings = family, settings
        self.tables = Tables()
        self.dirty: dict[ObjectKey, None] = {NODE: None}
        self.node: NodeForwarding | None = None
        self.wanted: dict[ObjectKey, ServiceForwarding] = {}
        self._holdings: dict[ObjectKey, Holding] = {}
        self._endpoints = 0

    def put(self, service: ServiceForwarding) -> None:
        """Takes what a Service means now; `render.check` has passed it."""
        before = self.wanted.get(service.key)
        if before is None and not service.entries and service.key not in self._holdings:
            return
        self._endpoints += _endpoints(service, self.family) - _endpoints(before, self.family)
        if service.entries:
            self.wanted[service.key] = service
        else:
            self.wanted.pop(service.key, None)
        self.dirty[service.key] = None

    def check_node(self, node: NodeForwarding) -> None:
        """Raises ValueError for a pod CIDR that is none."""
        self.settings.own(self.family, self._pod_cidrs(node))

    def put_node(self, node: NodeForwarding) -> None:
        if node != self.node:
            before, pods = self._counts_loopback, self._pod_cidrs(self.node)
            self.node = node
            self.dirty[NODE] = None
            if self._counts_loopback != before:
                self.suspect()
            elif self._pod_cidrs(node) != pods:
                self.dirty.update((key, None) for key, wanted in self.wanted.items() if _tells_pods(wanted))

    def configure(self, settings: Settings) -> None:
        """Other settings from now on: everything may differ."""
        self.settings = settings
        self.suspect()

    def adopt(self, tables: Tables) -> None:
        """The kernel was read: everything may differ."""
        self.tables = tables
        self.suspect()

    def suspect(self) -> None:
        """Everything may differ."""
        self.dirty = dict.fromkeys((NODE, *self.wanted, *self._holdings, *self.dirty))

    def owners(self) -> list[ObjectKey]:
        """Every Service that is wanted or has something."""
        return [*self.wanted, *(key for key in self._holdings if key not in self.wanted)]

    def change(self, owner: ObjectKey) -> Change:
        """What is to be done for an object."""
        if owner == NODE:
            return self._base_change()
        held = self._holdings.get(owner, _NONE)
        rendered, comments = self._render(owner)
        there = self.tables.chains[n.NAT]
        kept = set(rendered.lines)
        self._holdings[owner] = Holding(
            tuple(dict.fromkeys((*rendered.chains, *held.chains))),
            tuple(dict.fromkeys((*rendered.lines, *held.lines))),
            comments,
        )
        return Change(
            owner,
            write={(n.NAT, c): r for c, r in rendered.chains.items() if there.get(c) != digest(c, r)},
            drop=[name for name in held.chains if name not in rendered.chains and name in there],
            add=[line for line in rendered.lines if not self.tables.has(line)],
            remove=[line for line in held.lines if line not in kept and self.tables.has(line)],
        )

    def rendered(self, service: ServiceForwarding) -> Rendered:
        """The text of a Service, in the manner in which this one is written."""
        held = self._holdings.get(service.key)
        return self._text(service, comments=held.comments if held else self._endpoints <= MANY_ENDPOINTS)

    def base(self) -> Base:
        """The text of everything else."""
        return base(self.family, self.settings, self.node)

    def settle(self, owner: ObjectKey) -> None:
        """The change is in the kernel."""
        self.dirty.pop(owner, None)
        held = self._holdings.get(owner)
        if held is None:
            return
        there = self.tables.chains[n.NAT]
        chains = tuple(name for name in held.chains if name in there)
        lines = tuple(line for line in held.lines if self.tables.has(line))
        if chains or lines:
            self._holdings[owner] = Holding(chains, lines, held.comments)
        else:
            del self._holdings[owner]

    def strays(self, stuck: Container[str] = ()) -> Change:
        """What the kernel has of Services and no owner has any more; shared chains with too many are written anew.

        `stuck`: chains that cannot go.
        """
        mine = {name for held in self._holdings.values() for name in held.chains}
        lines = {(line.table, line.chain, line.rule) for held in self._holdings.values() for line in held.lines}
        gone: dict[tuple[str, str], list[Line]] = {}
        for where, rule in self.tables.lines():
            if (*where, rule) not in lines and not self._is_of_node(where, rule):
                gone.setdefault(where, []).append(Line(*where, rule))
        anew = [where for where in SHARED if len(gone.get(where, ())) > _REWRITE or where in self.tables.muddled]
        return Change(
            None,
            drop=[
                name
                for name in self.tables.chains[n.NAT]
                if n.is_of_services(name) and name not in mine and name not in stuck
            ],
            append=[line for where in anew for line in self._rest(where, gone.get(where, []))],
            remove=[line for where, every in gone.items() if where not in anew for line in every],
            shared=anew,
        )

    def _rest(self, where: tuple[str, str], gone: Iterable[Line]) -> Iterator[Line]:
        dropped = {line.rule for line in gone}
        return (Line(*where, rule) for rule in self.tables.shared.get(where, ()) if rule not in dropped)

    @staticmethod
    def _is_of_node(where: tuple[str, str], rule: str) -> bool:
        return where == (n.FILTER, n.KUBELET_FIREWALL) or LAST in rule

    def _render(self, owner: ObjectKey) -> tuple[Rendered, bool]:
        """The text, and whether it has comments: as what is there, for as long as anything is."""
        service = self.wanted.get(owner)
        if service is None:
            return NOTHING, True
        held = self._holdings.get(owner)
        comments = held.comments if held else self._endpoints <= MANY_ENDPOINTS
        rendered = self._text(service, comments=comments)
        if held is None and self._differs(rendered):
            other = self._text(service, comments=not comments)
            if not self._differs(other):
                return other, not comments
        return rendered, comments

    def _text(self, service: ServiceForwarding, *, comments: bool) -> Rendered:
        pods, loopback = self._pod_cidrs(self.node), self._counts_loopback
        return render(service, self.family, self.settings, comments=comments, loopback=loopback, pod_cidrs=pods)

    def _pod_cidrs(self, node: NodeForwarding | None) -> tuple[str, ...]:
        """This node's, of the family."""
        return tuple(c for c in node.pod_cidrs if (":" in c) is (self.family == 6)) if node else ()

    @property
    def _counts_loopback(self) -> bool:
        if self.node is None or n.LOOPBACK_COUNTER not in self.settings.counted:
            return False
        return self.settings.opens_loopback(self.family, everywhere=self.family in self.node.match_all_families)

    def _differs(self, rendered: Rendered) -> bool:
        """Whether chains that lead to endpoints are there, and other than these."""
        there = self.tables.chains[n.NAT]
        ours = (name for name in rendered.chains if name.startswith(_UNCOMMENTED))
        return any(name in there and there[name] != digest(name, rendered.chains[name]) for name in ours)

    def _base_change(self) -> Change:
        wanted, tables = self.base(), self.tables
        jumps = wanted.node_ports
        there = [rule for rule in tables.shared.get((n.NAT, n.SERVICES), ()) if LAST in rule]
        stale = [] if jumps is None else [rule for rule in there if all(rule != line.rule for line in jumps)]
        return Change(
            NODE,
            write={
                (table, name): rules
                for (table, name), rules in wanted.chains.items()
                if tables.chains[table].get(name) != digest(name, rules)
            },
            append=[line for line in (*wanted.lines, *(jumps or ())) if not tables.has(line)],
            remove=[Line(n.NAT, n.SERVICES, rule) for rule in stale],
            hooks=[line for line in (*HOOKS, *KUBELETS) if line not in tables.hooks],
            shared=[where for where in SHARED if where not in tables.shared],
        )


def _endpoints(service: ServiceForwarding | None, family: int) -> int:
    """About how many endpoints a Service has: the most of any of its entries."""
    entries = service.entries if service else ()
    return max((len(entry.targets) for entry in entries if entry.frontend.family == family), default=0)


def _tells_pods(service: ServiceForwarding) -> bool:
    """Whether it matters which pods are this node's: under externalTrafficPolicy Local alone."""
    return any(entry.local_targets is not None for entry in service.entries)
