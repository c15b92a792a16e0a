"""Numbers, times and objects in sentences for operators, in the command and on the page."""

from __future__ import annotations

from collections.abc import Sequence

from deltaplane.v1 import objects_pb2

_SPANS = ((86_400, "d"), (3_600, "h"), (60, "m"))
KINDS = {
    objects_pb2.KIND_SERVICE: "svc",
    objects_pb2.KIND_ENDPOINT_SLICE: "endpointslice",
    objects_pb2.KIND_NODE: "node",
    objects_pb2.KIND_SERVICE_CIDR: "servicecidr",
}


def seconds(number: float) -> str:
    """A time that has passed: `0.4s`, `12s`, `3m20s`, `2h5m`, `4d1h`."""
    if number < 60:
        return f"{number:.1f}s" if number < 10 else f"{number:.0f}s"
    whole = int(number)
    for place, (size, unit) in enumerate(_SPANS):
        if whole >= size:
            smaller, name = _SPANS[place + 1] if place + 1 < len(_SPANS) else (1, "s")
            rest = whole % size // smaller
            return f"{whole // size}{unit}{rest}{name}" if rest else f"{whole // size}{unit}"
    return f"{whole}s"


def since(unix_nano: int, now: float) -> str:
    """How long ago that was, as `seconds` says it. `now` in Unix seconds."""
    return seconds(max(0.0, now - unix_nano / 1e9))


def count(number: int, one: str, many: str = "") -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def key(of: objects_pb2.ObjectKey) -> str:
    """An object: `svc/shop/web`, `node/node-a`."""
    return "/".join(filter(None, (KINDS.get(of.kind, f"kind-{of.kind}"), of.namespace, of.name)))


def unlabelled(labels: Sequence[str]) -> str:
    """Why no agent is to run on a node. `labels`: KEY=VALUE of each that it lacks."""
    which = "label" if len(labels) == 1 else "labels"
    return f"the Node lacks the {which} {' and '.join(labels)}, by which the agents' DaemonSet chooses its nodes"
