"""Shared chains: made on demand, the same for every Service that needs one, never changed, found by their name.

`program` holds what is there from the start; `render` names shared chains; `delivery` makes them before their first
use and takes those with a "/" in their name away after their last.

    cluster-K, node-K            choose among all endpoints of an address or a node port (K: a power of two from 4)
    external-K, nodeport-K       the same, masqueraded
    local-L, node-local-L        choose among this node's own
    external-local-K-L, nodeport-local-K-L
                                 this node's connections go anywhere masqueraded, those of its pods go anywhere, all
                                 others to local endpoints (C1); with L = 0 these fall through to the no-endpoints
                                 check, which drops them (C3)
    firewall/HASH                drops sources outside the list of ranges that has this hash (G1)
    any choosing one /SECONDS/NAMESPACE/NAME/PORT/PROTOCOL
                                 the same, with session affinity (H1): see `_sticky`; and KIND-keep/..., see `_keep`

Choosing among N endpoints without a rule per Service is rejection sampling: the chain for K, the smallest power of two
not below N, tries a random slot below K eight times and then one below K/2, where every slot is filled. A miss falls
through to the next rule. The bias is at most 2^-8. The kernel walks through every element of a verdict map whenever one
changes (2 ms with 10,000 Services), so a Service stays in the same chain while it has one to four endpoints, as most
do; the smallest chain has one more try for those with a single one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nodeagent.dataplane.nft_rules import key, own_pods
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.linux.nft import expressions as x
from nodeagent.linux.nft import statements as s
from nodeagent.linux.nft.objects import DYNAMIC, INTERVAL, TIMEOUT, Chain, Rule, Set, rule
from nodeagent.linux.nft.program import Part
from nodeagent.linux.nft.ranges import Range

TRIES = 8
SMALLEST = 4  # endpoints that the smallest chain chooses among
KEEP = "-keep"  # with what kinds of chains end that bind clients to endpoints
CLIENTS = "affinity/"  # with what names of maps of clients begin
LOCAL_OFFSET = 32768  # where the slots of a frontend's node-local list begin; also the most endpoints of one list

ENDPOINTS, NODEPORT_ENDPOINTS = "endpoints", "nodeport-endpoints"
AFFINITY_SLOTS, AFFINITY_ENDPOINTS, AFFINITY_LOCALS = "affinity-slots", "affinity-endpoints", "affinity-local-endpoints"
NODEPORT_AFFINITY_SLOTS, NODEPORT_AFFINITY_ENDPOINTS, NODEPORT_AFFINITY_LOCALS = (
    "nodeport-affinity-slots",
    "nodeport-affinity-endpoints",
    "nodeport-affinity-local-endpoints",
)


class Builder(NamedTuple):
    """Builds the shared chains of one family."""

    family: int
    settings: Settings

    def part(self, name: str, ranges: tuple[Range, ...] = ()) -> Part:
        """The shared chain of this name after the chains it goes to; `ranges` are a firewall's."""
        if name.startswith("firewall/"):
            return self._firewall(name, ranges)
        head, _, tail = name.partition("/")
        chains = self._chains(head, f"/{tail}" if tail else "")
        clients = Set(clients_of(name), (x.source(self.family),), (x.priority(),), DYNAMIC | TIMEOUT)
        return Part(chains, (clients,) if tail else ())

    def _firewall(self, name: str, ranges: tuple[Range, ...]) -> Part:
        sources = (x.source(self.family),)
        refuse = rule(s.stranger(sources, self.family, name), s.drop())
        return Part((Chain(name, (refuse,)),), (Set(name, sources, flags=INTERVAL, ranges=ranges),))

    def _chains(self, head: str, tail: str) -> tuple[Chain, ...]:
        kind, *counts = split(head)
        if kind.endswith(KEEP):
            return (self._keep(kind.removesuffix(KEEP), tail),)
        if kind in ("cluster", "node", "local", "node-local"):
            if tail:
                return (self._keep(kind, tail), Chain(head + tail, self._sticky(kind, counts[0], tail)))
            return (Chain(head, self._choice(kind, counts[0])),)
        plain = "cluster" if kind.startswith("external") else "node"
        if kind in ("external", "nodeport"):
            mark = rule(s.mark(self.settings.mark))
            below = self._chains(f"{plain}-{counts[0]}", tail)
            return (*below, Chain(head + tail, (mark, rule(s.goto(below[-1].name)))))
        return self._by_source(head, tail, plain)

    def _by_source(self, head: str, tail: str, plain: str) -> tuple[Chain, ...]:
        kind, *counts = split(head)
        count, own = counts
        everywhere = self._chains(f"{kind.removesuffix('-local')}-{count}", tail)
        rules = [rule(s.from_this_node(), s.goto(everywhere[-1].name))]
        pods = own_pods(self.settings, self.family)
        if pods is not None:
            rules.append(rule(*pods, s.goto(f"{plain}-{count}{tail}")))
        local: tuple[Chain, ...] = ()
        if own:
            local = self._chains(f"{'local' if plain == 'cluster' else 'node-local'}-{own}", tail)
            rules.append(rule(s.goto(local[-1].name)))
        return (*everywhere, *local, Chain(head + tail, tuple(rules)))

    def _choice(self, kind: str, size: int) -> tuple[Rule, ...]:
        name = NODEPORT_ENDPOINTS if kind.startswith("node") else ENDPOINTS
        return self._draws(kind, size, lambda slot: (s.translate(slot, self.family, name),))

    def _sticky(self, kind: str, size: int, tail: str) -> tuple[Rule, ...]:
        """A client's next connections go where its first went (H1 to H6).

        A map of the service port, shared by all its frontends, holds for each client the number of its endpoint
        (`affinity.numbers`); further maps hold the numbers of a frontend's slots, and the endpoints by number. A client
        whose number is not among the frontend's endpoints any more is forgotten at once and draws anew. The packet's
        priority carries the number from one look-up to the next, because nft cannot show look-ups that are chained
        through registers. Only the first packet of a connection takes this way; its queueing priority is overwritten.
        """
        clients, keep = clients_of(kind + tail), self._keep(kind, tail)
        known = s.prioritise((x.source(self.family),), self.family, clients)
        to_keep, numbers = s.goto(keep.name), _STICKY[kind][0]
        drawn = self._draws(kind, size, lambda slot: (s.prioritise(slot, self.family, numbers), to_keep))
        still_there = (statement for line in keep.rules for statement in line.statements)
        return (rule(known, *still_there), rule(s.forget(self.family, clients)), *drawn)

    def _keep(self, kind: str, tail: str) -> Chain:
        """Binds a client to the endpoint whose number the packet carries, and sends it there.

        A service port remembers at most 65,535 clients of a family, which is the kernel's limit for such maps; further
        ones are served without being remembered.
        """
        remember = s.remember(self.family, clients_of(kind + tail), int(tail.split("/")[1]))
        endpoint = (*key(kind, self.family), x.priority())
        send = s.translate(endpoint, self.family, _STICKY[kind][1])
        return Chain(f"{kind}{KEEP}{tail}", (rule(remember), rule(send)))

    def _draws(
        self, kind: str, size: int, with_slot: Callable[[tuple[x.Field, ...]], tuple[s.Statement, ...]]
    ) -> tuple[Rule, ...]:
        """One rule for each try."""
        offset = LOCAL_OFFSET if kind.endswith("local") else 0
        moduli = [size] * TRIES + [size // 2] + ([1] if size == SMALLEST else [])
        frontend = key(kind, self.family)
        return tuple(rule(*with_slot((*frontend, x.random(modulus, offset)))) for modulus in moduli)


_STICKY = {  # by kind: the numbers of slots, the endpoints of numbers
    "cluster": (AFFINITY_SLOTS, AFFINITY_ENDPOINTS),
    "local": (AFFINITY_SLOTS, AFFINITY_LOCALS),
    "node": (NODEPORT_AFFINITY_SLOTS, NODEPORT_AFFINITY_ENDPOINTS),
    "node-local": (NODEPORT_AFFINITY_SLOTS, NODEPORT_AFFINITY_LOCALS),
}


def split(head: str) -> tuple[str, *tuple[int, ...]]:
    """A name's kind and its counts."""
    words = head.split("-")
    numbers = tuple(int(word) for word in words if word.isdigit())
    return "-".join(words[: len(words) - len(numbers)]), *numbers


def clients_of(name: str) -> str:
    """The map of a service port's clients, from the name of one of its chains with affinity."""
    return CLIENTS + "/".join(name.split("/")[2:])


def is_private(name: str) -> bool:
    """Whether a chain or set belongs to some Services only, and is taken away after its last use."""
    return "/" in name
