"""Numbers, times and names as people read them. Pure."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import UTC, datetime
from math import inf

from deltaplane.v1 import objects_pb2

_UNITS = ((1_000_000_000, "s"), (1_000_000, "ms"), (1_000, "µs"), (1, "ns"))
_SPANS = ((86_400, "d"), (3_600, "h"), (60, "m"))
KINDS = {
    objects_pb2.KIND_SERVICE: "svc",
    objects_pb2.KIND_ENDPOINT_SLICE: "endpointslice",
    objects_pb2.KIND_NODE: "node",
    objects_pb2.KIND_SERVICE_CIDR: "servicecidr",
}


def nanoseconds(number: int) -> str:
    """A short time, three digits: `12.3 ms`."""
    for size, unit in _UNITS:
        if number >= size:
            value = number / size
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return "0 s"


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


def clock(unix_nano: int) -> str:
    """A moment of today, in UTC: `12:03:04.123Z`."""
    return datetime.fromtimestamp(unix_nano / 1e9, UTC).strftime("%H:%M:%S.%f")[:-3] + "Z"


def count(number: int, one: str, many: str = "") -> str:
    """`1 node`, `3 nodes`."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: list[str], most: int = 5) -> str:
    """`a, b and 7 more`."""
    if len(names) <= most:
        return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def key(of: objects_pb2.ObjectKey) -> str:
    """An object: `svc/shop/web`, `node/node-a`."""
    return "/".join(filter(None, (KINDS.get(of.kind, f"kind-{of.kind}"), of.namespace, of.name)))


def word(enum_name: str, prefix: str) -> str:
    """The name of an enum's value in lower case, without what all of the enum have: `stalled`."""
    return enum_name.removeprefix(prefix).replace("_", " ").lower()


_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+)ms)?")


def duration(given: str) -> float | None:
    """Seconds of `10s`, `1m30s`, `500ms`, `1.5h`, or of a plain number; None: it is none of these."""
    with suppress(ValueError):
        plain = float(given)
        return plain if 0 <= plain < inf else None
    found = _DURATION.fullmatch(given)
    if not given or not found:
        return None
    hours, minutes, whole, thousandths = (float(part or 0) for part in found.groups())
    return hours * 3600 + minutes * 60 + whole + thousandths / 1000
