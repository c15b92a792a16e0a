"""Scenarios too long to write: large slices and many ports, and what a small change of them costs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.flows.objects import Object, endpoint, endpoint_slice, port, service

ENDPOINTS, PORTS = 1000, 100


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """One scenario each for endpoints and ports."""
    yield "thousand-endpoints", _endpoints()
    yield "hundred-ports", _ports()


def _endpoints() -> dict[str, Any]:
    """An endpoint that comes or goes is an element or two, not a thousand."""
    many = [endpoint(f"10.200.{number // 250}.{number % 250 + 1}", "other-node") for number in range(ENDPOINTS)]
    here = [endpoint("10.180.0.1", "other-node")]
    large = service("large", "172.30.0.41", internalTrafficPolicy="Local")
    small = service("small", "172.30.0.42")
    other = "pod 172.30.0.42:80 -> 10.180.0.1:80"
    first = [large, small, service("all", "172.30.0.43"), endpoint_slice("all", many), endpoint_slice("small", here)]
    return {
        "about": "A slice of a thousand endpoints; each change costs what changed, and other Services do not notice.",
        "rows": ["A1", "E9", "E11"],
        "not-in": {"kube-proxy": "its operations are not counted here, and the packets are those of other scenarios"},
        "steps": [
            {"apply": [*first, endpoint_slice("large", many)], "flows": [other, "pod 172.30.0.41:80 -> drop"]},
            {"apply": [endpoint_slice("all", many[1:])], "operations": 3, "flows": [other]},
            {"apply": [endpoint_slice("all", [*many[1:], *here])], "operations": 1, "flows": [other]},
            {"apply": [endpoint_slice("all", many[::2])], "operations": ENDPOINTS * 2},
            {"apply": [endpoint_slice("all", here)], "flows": ["pod 172.30.0.43:80 -> 10.180.0.1:80"]},
        ],
    }


def _ports() -> dict[str, Any]:
    """A Service of a hundred ports, of which one is taken away."""
    ports = [port(1000 + number, f"p{number}") for number in range(PORTS)]
    slice_: Object = endpoint_slice(
        "many", [endpoint("10.180.0.1", "other-node"), endpoint("10.180.0.2", "other-node")]
    )
    slice_["ports"] = [{"name": f"p{number}", "port": 2000 + number, "protocol": "TCP"} for number in range(PORTS)]
    ends = "10.180.0.1:{0} 10.180.0.2:{0}"
    return {
        "about": "A Service of a hundred ports; taking one away costs that one.",
        "rows": ["A2", "A3"],
        "steps": [
            {
                "apply": [service("many", "172.30.0.41", *ports), slice_],
                "flows": [f"pod 172.30.0.41:{1000 + n} -> {ends.format(2000 + n)}" for n in (0, 50, PORTS - 1)],
            },
            {
                "apply": [service("many", "172.30.0.41", *ports[:-1])],
                "operations": 3,
                "flows": [
                    f"pod 172.30.0.41:{999 + PORTS} -> refused",
                    f"pod 172.30.0.41:1000 -> {ends.format(2000)}",
                ],
            },
        ],
    }
