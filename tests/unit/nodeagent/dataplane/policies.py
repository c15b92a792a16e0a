"""The table of traffic policies (2.3) as a Service and as what should come of it: the same in every kernel dialect."""

from __future__ import annotations

from msgspec.structs import replace

from deltaplane.forwarding import Entry
from tests.unit.nodeagent.dataplane.nftables.tracing import HOST, OTHER_POD, OUTSIDE, POD
from tests.unit.nodeagent.dataplane.nftables.walks import (
    EXTERNAL,
    VIP,
    cluster_ip,
    external,
    local_policy,
    node_port,
    targets,
)

ALL, LOCAL = (1, 2, 3), (1, 2)
SOURCES = {"pod": POD, "other pod": OTHER_POD, "node": HOST, "external": OUTSIDE}
BY_INTERFACE = ("bridge", "prefix")  # settings that know no pods but this node's
ADDRESSES = {
    "clusterip": ("172.30.0.1", 80),
    "nodeport": (HOST, 30080),
    "lb": ("198.51.100.7", 80),
    "externalip": ("203.0.113.9", 80),
}


def entries(policy: str) -> tuple[Entry, ...]:
    """A Service of three endpoints, two of them here, as resolve says it under a policy."""
    everywhere, here = targets(*ALL), targets(*LOCAL)
    inside = cluster_ip("172.30.0.1", here if policy == "internal local" else everywhere)
    inside = replace(inside, local_policy=policy == "internal local")
    fronts = (node_port(30080, everywhere).frontend, EXTERNAL, VIP)
    if policy == "external local":
        return (inside, *(local_policy(frontend, everywhere, here) for frontend in fronts))
    return (inside, *(external(frontend, everywhere) for frontend in fronts))


def outcome(policy: str, source: str, address: str, settings: str) -> tuple[tuple[int, ...], bool]:
    """The endpoints and whether the source is hidden, from the table and its overrides."""
    detector = "none" not in settings
    pods = ("pod",) if settings in BY_INTERFACE else ("pod", "other pod")
    if address == "clusterip":
        hidden = "all" in settings or (detector and source not in pods)
        return LOCAL if policy == "internal local" else ALL, hidden
    if policy != "external local":
        return ALL, True
    if source == "node":
        return ALL, True
    return (ALL, False) if source == "pod" and detector else (LOCAL, False)
