"""The table of client classes, traffic policies and options, as four scenarios of 48 flows.

Which endpoints a connection may reach and whether it is masqueraded, by where it comes from, what it is addressed to
and the Service's policy; and what changes without a local-traffic detector and with masqueradeAll. The cells follow
kube-proxy 1.36 (TestInternalExternalMasquerade), and add external IPs, which that test leaves out, and pods of other
nodes, which kube-proxy takes for the node's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from tests.flows.objects import endpoint, endpoint_slice, port, service
from tests.flows.scenario import NODE, NODE_NAME

LOCAL, REMOTE = "10.180.0.1", "10.180.1.1"
POLICIES: dict[str, dict[str, str]] = {
    "cluster": {},
    "external-local": {"externalTrafficPolicy": "Local"},
    "internal-local": {"internalTrafficPolicy": "Local"},
}
PLACES = ("cluster-ip", "node-port", "load-balancer", "external-ip")
SOURCES = ("pod", "other-pod", "node", "external")
THEIRS = (
    "kube-proxy sends every pod anywhere unmasqueraded; an endpoint elsewhere answers another node's pod past this one"
)


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """A scenario per combination of the two options."""
    for detector, masquerade_all in product((True, False), (False, True)):
        name = "policies" + ("" if detector else "-no-detector") + ("-masquerade-all" if masquerade_all else "")
        theirs = [*_flows(detector, masquerade_all, own=("pod", "other-pod"))]
        ours = [*_flows(detector, masquerade_all)]
        differing = [flow for flow, usual in zip(theirs, ours, strict=True) if flow != usual]
        node: dict[str, Any] = {"masquerade-all": masquerade_all} | ({} if detector else {"cluster-cidr": ""})
        yield (
            name,
            {
                "about": "Every client class against every kind of address under every policy.",
                "upstream": "TestInternalExternalMasquerade",
                "rows": _rows(detector, masquerade_all),
                "node": node,
                "steps": [{"apply": list(_objects()), "flows": ours}],
                "instead": [{"in": ["kube-proxy"], "because": THEIRS, "flows": differing}] if differing else [],
            },
        )


def _rows(detector: bool, masquerade_all: bool) -> list[str]:
    more = (["I3"] if masquerade_all else []) + ([] if detector else ["I5"])
    return ["A7", "A8", "A10", "C1", "C4", "I1", "I2", *more]


def _objects() -> Iterator[dict[str, Any]]:
    for number, (name, policy) in enumerate(POLICIES.items(), 1):
        yield service(
            name,
            f"172.30.0.{40 + number}",
            port(80, node_port=30000 + number),
            vip=f"5.5.5.{number}",
            type="LoadBalancer",
            externalIPs=[f"192.0.2.{number}"],
            **policy,
        )
        yield endpoint_slice(name, [endpoint(LOCAL, NODE_NAME), endpoint(REMOTE, "other-node")])


def _flows(detector: bool, masquerade_all: bool, own: tuple[str, ...] = ("pod",)) -> Iterator[str]:
    """`own`: the pods that are taken for the node's."""
    for source, place, (number, policy) in product(SOURCES, PLACES, enumerate(POLICIES, 1)):
        client = "pod" if source in own else source
        local, masqueraded = cell(client, place, policy, detector, masquerade_all)
        ends = f"{LOCAL}:80" if local else f"{LOCAL}:80 {REMOTE}:80"
        yield f"{source} {_address(place, number)} -> {ends}{' masqueraded' if masqueraded else ''}"


def _address(place: str, number: int) -> str:
    return {
        "cluster-ip": f"172.30.0.{40 + number}:80",
        "node-port": f"{NODE}:{30000 + number}",
        "load-balancer": f"5.5.5.{number}:80",
        "external-ip": f"192.0.2.{number}:80",
    }[place]


def cell(source: str, place: str, policy: str, detector: bool, masquerade_all: bool) -> tuple[bool, bool]:
    """Whether only local endpoints are reached, and whether the connection is masqueraded."""
    if place == "cluster-ip":
        return policy == "internal-local", masquerade_all or (detector and source not in ("pod", "other-pod"))
    if policy != "external-local":
        return False, True
    if source == "node":
        return False, True
    inside = source == "pod" and detector
    return not inside, False
