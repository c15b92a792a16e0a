"""From forwarding entries to listeners and routes: which list of endpoints each address and source leads to. Pure.

`dataplane` asks; `tracker` keeps routes, `proxy` the lines. A listener stands for a service port, a family, a protocol
and a list: sources outside the cluster have a listener of their own where a policy gives them another list, and so
have addresses that are closed to some sources.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from deltaplane.forwarding import Entry, FrontendKind, ServiceForwarding, Target, Verdict
from deltaplane.model import ObjectKey, Protocol
from nodeagent.dataplane import widths
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.set_members import cluster_ips


class Port(NamedTuple):
    """What one listener is for."""

    owner: ObjectKey
    name: str  # of the service port
    family: int
    protocol: int
    scope: str  # "cluster", "external" or "outside"
    ranges: tuple[str, ...] = ()  # sources that may come in; empty: all


class Line(Struct, frozen=True, gc=False):
    """Where a listener's connections go. `serving`: UDP flows to these stay, though no new ones go there."""

    targets: tuple[Target, ...]
    serving: tuple[Target, ...] = ()
    affinity: int = 0  # seconds; 0: none


class Route(NamedTuple):
    """What becomes of connections to one frontend: a listener, or a verdict. `outside` None: as inside."""

    inside: Port | Verdict
    outside: Port | Verdict | None = None


class Plan(NamedTuple):
    """All that one Service asks for; routes by the frontend's identity (`frontend_key`)."""

    lines: dict[Port, Line]
    routes: dict[bytes, Route]
    cluster_ips: tuple[bytes, ...]  # of the set (`set_members`)
    unsupported: tuple[str, ...] = ()  # what this mode cannot do, in words


def plan(service: ServiceForwarding, families: frozenset[int]) -> Plan:
    """What a Service asks for in these families. Raises ValueError for an entry that cannot be said."""
    lines: dict[Port, Line] = {}
    routes: dict[bytes, Route] = {}
    unsupported: dict[str, None] = {}
    for entry in service.entries:
        if entry.frontend.family not in families:
            continue
        widths.check(entry)
        if entry.frontend.protocol == Protocol.SCTP and entry.verdict == Verdict.FORWARD:
            unsupported[f"SCTP port {entry.port_name or entry.frontend.port}"] = None
        else:
            routes[identity(entry)] = _route(service.key, entry, lines)
    cluster = tuple(dict.fromkeys(member for member in cluster_ips(service) if member[0] in families))
    return Plan(lines, routes, cluster, tuple(unsupported))


def _route(owner: ObjectKey, entry: Entry, lines: dict[Port, Line]) -> Route:
    if entry.verdict != Verdict.FORWARD:
        return Route(entry.verdict)
    internal = entry.frontend.kind == FrontendKind.CLUSTER_IP
    inside = _listener(owner, entry, "cluster" if internal else "external", lines)
    if entry.local_targets is None:
        return Route(inside)
    return Route(inside, _listener(owner, entry, "outside", lines) if entry.local_targets else entry.external_verdict)


def _listener(owner: ObjectKey, entry: Entry, scope: str, lines: dict[Port, Line]) -> Port:
    kind, family, _, protocol, number = entry.frontend
    targets = entry.local_targets or () if scope == "outside" else entry.targets
    line = Line(targets, entry.serving, entry.affinity_seconds)
    port = Port(owner, entry.port_name, family, protocol, scope, entry.source_ranges)
    if lines.setdefault(port, line) != line:  # two of its frontends differ, which resolve never says
        port = port._replace(scope=f"{scope} {kind} {number}")
        lines[port] = line
    return port
