"""A scenario of the corpus as frozen values, and how it reads in YAML.

A flow is a line: `FROM [PROTOCOL] TO -> OUTCOME`. FROM is a client by name (`CLIENTS`) or an address; PROTOCOL is tcp
unless said; OUTCOME is `refused`, `drop`, `pass` (left alone), or the endpoints that the connection may reach, each of
which it does reach sooner or later. The word `masqueraded` after them says that the endpoint sees the node's address;
`ENDPOINT/masqueraded` says it of one. `sticky` says that a client stays with whichever it got, `sticky again` that this
is the one it got in an earlier sticky flow of the scenario, and `sticky expires` that it may get another after a second
without connections. `kept` is a UDP client that keeps its source port over the scenario's steps.
`instead` lists columns (or groups of them: a proxy mode, or kube-proxy) in which some flows have another outcome,
`because` of what, and in which steps if not in all that have the flow.
Called by `corpus` and the columns; knows neither Kubernetes objects nor how any column works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from tests.flows.columns import BY_NAME, COLUMNS, GROUPS

POD, NODE, EXTERNAL, BLOCKED = "10.0.0.2", "192.168.0.2", "203.0.113.2", "203.0.113.130"
OTHER_POD = "10.0.1.2"  # of another node; the scenarios' "pod" is the node's own
CLIENTS = {
    "pod": POD,
    "other-pod": OTHER_POD,
    "node": NODE,
    "external": EXTERNAL,
    "blocked": BLOCKED,
    "loopback": "127.0.0.1",
}
NODE_NAME = "test-node"
ADDRESSES = (NODE, "192.168.1.2", "192.168.99.11")  # the node's: first, alternative, and one used as an external IP
CLUSTER_CIDR, POD_CIDR = "10.0.0.0/8", "10.0.0.0/24"  # all nodes' pods, and the node's own
PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
MANNERS = frozenset({"sticky", "again", "expires", "kept"})
REFUSED, DROP, PASS, REACH = "refused", "drop", "pass", "reach"

End = tuple[str, bool]  # an endpoint as address:port, and whether it sees the node's address


class Unreadable(ValueError):
    """A scenario that does not follow the format; says where."""


@dataclass(frozen=True)
class Outcome:
    """What becomes of a connection. `ends` only for REACH."""

    kind: str
    ends: frozenset[End] = frozenset()

    def __str__(self) -> str:
        if self.kind != REACH:
            return self.kind
        return " ".join(f"{end}{'/masqueraded' if masqueraded else ''}" for end, masqueraded in sorted(self.ends))


@dataclass(frozen=True)
class Flow:
    """A client's connections to one place."""

    source: str  # address
    protocol: str  # tcp, udp or sctp
    to: str  # address
    port: int
    expected: Outcome
    manners: frozenset[str] = frozenset()  # of MANNERS
    text: str = ""  # as written

    @property
    def family(self) -> int:
        return ip_address(self.to).version

    @property
    def place(self) -> tuple[str, str, str, int]:
        """Who connects to what."""
        return self.source, self.protocol, self.to, self.port

    @property
    def sticky(self) -> bool:
        return "sticky" in self.manners

    @property
    def again(self) -> bool:
        return "again" in self.manners

    @property
    def expires(self) -> bool:
        return "expires" in self.manners

    @property
    def kept(self) -> bool:
        return "kept" in self.manners


@dataclass(frozen=True)
class View:
    """The node under test and its proxy's options."""

    addresses: tuple[str, ...] = ADDRESSES  # of its links; the first is its Node object's
    zone: str = ""
    cluster_cidr: str = CLUSTER_CIDR  # "": no local-traffic detector
    masquerade_all: bool = False
    nodeport_addresses: tuple[str, ...] = ("primary",)


@dataclass(frozen=True)
class Step:
    """Objects that come or change, then objects that go, at once; and what holds after."""

    apply: tuple[Mapping[str, Any], ...] = ()
    delete: tuple[str, ...] = ()  # "Kind name" or "Kind namespace/name"
    flows: tuple[Flow, ...] = ()
    operations: int | None = None  # set and map elements written and deleted, at most; None: `Product.most`
    health: tuple[tuple[str, int], ...] = ()  # Service namespace/name, local ready endpoints at its health check port


@dataclass(frozen=True)
class Instead:
    """What becomes of some flows in some columns, where that is another thing and has its reason."""

    groups: tuple[str, ...]  # columns, or groups of them
    because: str
    flows: tuple[Flow, ...]
    steps: tuple[int, ...] = ()  # from 1; none: all that have the flow
    families: tuple[int, ...] = (4, 6)


@dataclass(frozen=True)
class Scenario:
    name: str
    family: int
    about: str
    rows: tuple[str, ...]
    view: View
    steps: tuple[Step, ...]
    upstream: str = ""
    not_in: tuple[tuple[str, str], ...] = ()  # column or group of columns, reason
    instead: tuple[Instead, ...] = ()

    @property
    def id(self) -> str:
        return f"{self.name}-v{self.family}"

    def reason_not_in(self, column: str) -> str:
        """Why the column does not run it; "": it does."""
        reasons = dict(self.not_in)
        return next((reasons[group] for group in BY_NAME[column].groups if group in reasons), "")


_TOP = {"about", "rows", "node", "steps", "upstream", "not-in", "instead", "families"}
_STEP = {"apply", "delete", "flows", "operations", "health"}
_NODE = {"addresses", "zone", "cluster-cidr", "masquerade-all", "nodeport-addresses"}


def parse(name: str, family: int, document: Mapping[str, Any], clients: Mapping[str, str] = CLIENTS) -> Scenario:
    """A scenario of one document, whose addresses are of this family. Raises `Unreadable`."""
    _known(document, _TOP, name)
    not_in = dict(document.get("not-in") or {})
    if not document.get("rows") or not set(not_in) <= GROUPS:
        raise Unreadable(f"{name}: rows are missing, or not-in names no column of {', '.join(COLUMNS)}")
    return Scenario(
        name=name,
        family=family,
        about=" ".join(document["about"].split()),
        rows=tuple(document["rows"]),
        view=_view(document.get("node") or {}, clients, name),
        steps=tuple(_step(step, clients, f"{name}, step {i}") for i, step in enumerate(document["steps"], 1)),
        upstream=document.get("upstream", ""),
        not_in=tuple(not_in.items()),
        instead=tuple(_instead(given, clients, name) for given in document.get("instead", ())),
    )


def _instead(given: Mapping[str, Any], clients: Mapping[str, str], name: str) -> Instead:
    _known(given, {"in", "because", "steps", "flows", "families"}, f"{name}, instead")
    if not set(given["in"]) <= GROUPS:
        raise Unreadable(f"{name}, instead: in names no column of {', '.join(COLUMNS)}")
    flows = tuple(parse_flow(line, clients, f"{name}, instead") for line in given["flows"])
    because = " ".join(given["because"].split())
    return Instead(
        tuple(given["in"]), because, flows, tuple(given.get("steps", ())), tuple(given.get("families", (4, 6)))
    )


def _known(given: Mapping[str, Any], known: set[str], where: str) -> None:
    if strange := set(given) - known:
        raise Unreadable(f"{where}: no such field: {', '.join(sorted(strange))}")


def _view(given: Mapping[str, Any], clients: Mapping[str, str], where: str) -> View:
    _known(given, _NODE, f"{where}, node")
    usual = View()
    return View(
        addresses=tuple(given.get("addresses", usual.addresses)),
        zone=given.get("zone", ""),
        cluster_cidr=given.get("cluster-cidr", usual.cluster_cidr),
        masquerade_all=given.get("masquerade-all", False),
        nodeport_addresses=tuple(given.get("nodeport-addresses", usual.nodeport_addresses)),
    )


def _step(given: Mapping[str, Any], clients: Mapping[str, str], where: str) -> Step:
    _known(given, _STEP, where)
    return Step(
        apply=tuple(given.get("apply", ())),
        delete=tuple(given.get("delete", ())),
        flows=tuple(parse_flow(line, clients, where) for line in given.get("flows", ())),
        operations=given.get("operations"),
        health=tuple((given.get("health") or {}).items()),
    )


def parse_flow(line: str, clients: Mapping[str, str] = CLIENTS, where: str = "") -> Flow:
    """One line of `flows`. Raises `Unreadable`."""
    left, arrow, right = line.partition("->")
    words = left.split()
    if not arrow or not right.split() or len(words) not in (2, 3):
        raise Unreadable(f"{where}: {line!r} is not FROM [PROTOCOL] TO -> OUTCOME")
    source, protocol, to = words if len(words) == 3 else (words[0], "tcp", words[1])
    address, port = split(to)
    try:
        source = clients.get(source, source)
        known = {ip_address(source).version, ip_address(address).version}
    except ValueError as error:
        raise Unreadable(f"{where}: {line!r}: {error}") from error
    if protocol not in PROTOCOLS or len(known) > 1:
        raise Unreadable(f"{where}: {line!r}: no such protocol, or two families")
    outcome = right.split()
    expected = _outcome([word for word in outcome if word not in MANNERS])
    return Flow(source, protocol, address, port, expected, MANNERS & set(outcome), line)


def split(text: str) -> tuple[str, int]:
    """`address:port`, with brackets where the address is IPv6."""
    address, _, port = text.rpartition(":")
    return address.strip("[]"), int(port)


def join(address: str, port: int) -> str:
    """The same, written."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _outcome(words: list[str]) -> Outcome:
    if words[0] in (REFUSED, DROP, PASS):
        return Outcome(words[0])
    every = words[-1] == "masqueraded"
    ends = set()
    for word in words[:-1] if every else words:
        end, _, note = word.partition("/")
        ends.add((end.rstrip(","), every or note == "masqueraded"))
    return Outcome(REACH, frozenset(ends))
