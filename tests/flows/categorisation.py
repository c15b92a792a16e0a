"""Which endpoints a port has on this node, by their states, places and hints: one small scenario per case.

The cases are those of kube-proxy's TestCategorizeEndpoints (topology_test.go), as packets can show them: the cluster
list by a pod at the ClusterIP or node port, the local list under a Local policy, "none here, some elsewhere" as a drop.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from tests.flows.objects import Object, endpoint, endpoint_slice, port, service
from tests.flows.scenario import NODE, NODE_NAME

_STATES: dict[str, dict[str, bool]] = {
    "ready": {},
    "unready": {"ready": False, "serving": False},
    "draining": {"ready": False, "serving": True, "terminating": True},
    "dying": {"ready": False, "serving": False, "terminating": True},
}
VIP = "172.30.0.41:80"
NODE_PORT = 30001


class Case(NamedTuple):
    """`endpoints` are words: a number, then what differs from a ready, remote endpoint without hints.

    `3 local zone-a draining node-x`. `pod`: what a pod reaches at the ClusterIP; `pod_external` and `external`: at the
    node port, where there is one. A tuple of numbers, or a verdict.
    """

    rows: str
    endpoints: tuple[str, ...]
    pod: tuple[int, ...] | str
    external: tuple[int, ...] | str | None = None
    pod_external: tuple[int, ...] | str | None = None
    zone: str = "zone-a"
    internal: str = "Cluster"
    policy: str = "Cluster"


FOUR = ("3 zone-a", "4 zone-b", "5 zone-c", "6 zone-a")
HERE_AND_THERE = ("3 local", "4")
CASES: dict[str, Case] = {
    "zone hints choose this zone": Case("D1", FOUR, (3, 6)),
    "external Local ignores hints": Case(
        "D4", ("3 zone-a local", "4 zone-b local", "5 zone-c", "6 zone-a"), (3, 6), (3, 4), (3, 6), policy="Local"
    ),
    "internal Local ignores hints": Case(
        "D4", ("3 zone-a local", "4 zone-b local", "5 zone-c", "6 zone-a"), (3, 4), (3, 6), (3, 6), internal="Local"
    ),
    "a node without a zone takes all": Case("D3", FOUR, (3, 4, 5, 6), zone=""),
    "a single hinted endpoint and a node without a zone": Case("D3", ("3 zone-a",), (3,), zone=""),
    "no endpoint for this zone takes all": Case("D3", ("3 zone-a",), (3,), zone="zone-b"),
    "no endpoint for this zone among many": Case("D3", FOUR, (3, 4, 5, 6), zone="zone-d"),
    "another zone": Case("D1", FOUR, (4,), zone="zone-b"),
    "an unready endpoint of this zone": Case("D3", ("3 zone-a", "4 zone-b", "5 zone-c", "6 zone-a unready"), (3,)),
    "only unready endpoints in this zone": Case(
        "D3", ("3 zone-a unready", "4 zone-b", "5 zone-c", "6 zone-a unready"), (4, 5)
    ),
    "one endpoint without a hint disables hints": Case("D3", ("3 zone-a", "4 zone-b", "5", "6 zone-a"), (3, 4, 5, 6)),
    "an unready endpoint without a hint does not": Case(
        "D3", ("3 zone-a", "4 zone-b", "5 unready", "6 zone-a"), (3, 6)
    ),
    "several hints on an endpoint": Case(
        "D1",
        ("3 zone-a zone-b zone-c", "4 zone-b zone-c", "5 zone-b zone-d", "6 zone-c"),
        (3, 4, 6),
        zone="zone-c",
    ),
    "topology and locality differ": Case(
        "D4", ("3 zone-a local", "4 zone-b local", "5 zone-a", "6 zone-b"), (3, 5), (3, 4), (3, 5), policy="Local"
    ),
    "internal Local without endpoints": Case("F1", (), "refused", internal="Local"),
    "internal Local, all remote": Case("C2", ("3", "4"), "drop", internal="Local"),
    "internal Local, all local": Case("C1", ("3 local", "4 local"), (3, 4), internal="Local"),
    "internal Local, some local": Case("C1", HERE_AND_THERE, (3,), internal="Local"),
    "none ready": Case("E15", ("3 unready", "4 unready"), "refused"),
    "some ready": Case("E15", ("3 unready", "4"), (4,)),
    "all terminating": Case("E14", ("3 local draining", "4 draining"), (3, 4)),
    "internal Local, external Cluster": Case("C1", HERE_AND_THERE, (3,), (3, 4), (3, 4), internal="Local"),
    "internal Cluster, external Local": Case("C1", HERE_AND_THERE, (3, 4), (3,), (3, 4), policy="Local"),
    "both Local": Case("C1", HERE_AND_THERE, (3,), (3,), (3, 4), internal="Local", policy="Local"),
    "both Local, all remote": Case("C2 C3", ("3", "4"), "drop", "drop", (3, 4), internal="Local", policy="Local"),
    "both Local, all remote and terminating": Case(
        "C2 C3 E14", ("3 draining", "4 draining"), "drop", "drop", (3, 4), internal="Local", policy="Local"
    ),
    "external Local with terminating endpoints": Case(
        "E14", ("3", "4 local unready", "5 local draining", "6 draining"), (3,), (5,), (3,), policy="Local"
    ),
    "external Local without an external address": Case("C5", ("3", "4 local"), (3, 4), policy="Local"),
    "internal Local without a cluster list": Case("C1", ("3", "4 local"), (4,), internal="Local"),
    "node hints choose this node": Case("D2", ("3 zone-a node-here", "4 zone-a node-there", "5 zone-b node-x"), (3,)),
    "no node hint for this node falls to zones": Case("D2 D3", ("3 zone-a node-x", "4 zone-b node-y"), (3,)),
    "one endpoint without a node hint falls to zones": Case(
        "D2 D3", ("3 zone-a node-here", "4 zone-a", "5 zone-b"), (3, 4)
    ),
    "node hints without a zone": Case("D2 D3", ("3 node-here", "4 node-there"), (3,), zone=""),
    "no node hint for this node and no zone hints": Case("D2 D3", ("3 node-x", "4 node-y"), (3, 4)),
    "an unready endpoint on the hinted node": Case("D2 D3", ("3 node-here unready", "4 node-there"), (4,)),
    "the terminating fallback ignores hints": Case("E14 D3", ("3 zone-a draining", "4 zone-b draining"), (3, 4)),
    "terminating in this zone, ready elsewhere": Case("E14 D3", ("3 zone-a draining", "4 zone-b"), (4,)),
    "neither ready nor draining": Case("E15", ("3 local unready", "4 dying"), "refused"),
}  # fmt: skip


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """A scenario per case."""
    for title, case in CASES.items():
        yield (
            "endpoints-" + title.replace(",", "").replace(" ", "-").lower(),
            {
                "about": f"Endpoint lists: {title}.",
                "upstream": "TestCategorizeEndpoints",
                "rows": case.rows.split(),
                "node": {"zone": case.zone},
                "steps": [{"apply": _objects(case), "flows": list(_flows(case))}],
            },
        )


def _objects(case: Case) -> list[Object]:
    external = case.external is not None
    spec: dict[str, Any] = {"internalTrafficPolicy": case.internal}
    if external:
        spec |= {"type": "NodePort", "externalTrafficPolicy": case.policy}
    elif case.policy == "Local":  # the API has this policy only where something external could be
        spec |= {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": False, "externalTrafficPolicy": "Local"}
    return [
        service("svc", VIP.removesuffix(":80"), port(80, node_port=NODE_PORT if external else 0), **spec),
        endpoint_slice("svc", map(_endpoint, case.endpoints)),
    ]


def _endpoint(text: str) -> Object:
    number, *words = text.split()
    state = next((_STATES[word] for word in words if word in _STATES), {})
    made = endpoint(_address(int(number)), NODE_NAME if "local" in words else "other-node", **state)
    zones = [{"name": word} for word in words if word.startswith("zone-")]
    nodes = [{"name": NODE_NAME if w == "node-here" else w} for w in words if w.startswith("node-")]
    hints = ({"forZones": zones} if zones else {}) | ({"forNodes": nodes} if nodes else {})
    return made | ({"hints": hints} if hints else {})


def _address(number: int) -> str:
    return f"10.180.0.{number}"


def _flows(case: Case) -> Iterator[str]:
    yield f"pod {VIP} -> {_said(case.pod)}"
    if case.external is not None and case.pod_external is not None:
        masqueraded = " masqueraded" if case.policy == "Cluster" else ""
        yield f"external {NODE}:{NODE_PORT} -> {_said(case.external, masqueraded)}"
        yield f"pod {NODE}:{NODE_PORT} -> {_said(case.pod_external, masqueraded)}"


def _said(what: tuple[int, ...] | str, masqueraded: str = "") -> str:
    return what if isinstance(what, str) else " ".join(f"{_address(n)}:80" for n in what) + masqueraded
