"""The names of the controllers, as `--controllers` has them, and by which slices say whose they are. Pure."""

from __future__ import annotations

SLICES, ENDPOINTS = "endpointslice", "endpoints"
NAMES = (SLICES, ENDPOINTS)
# As endpointslice.kubernetes.io/managed-by has them: ours, unless `--endpointslice-manager` says another.
SLICE_MANAGER = "endpointslice-controller.deltaplane.dev"
UPSTREAM = "endpointslice-controller.k8s.io"


def chosen(text: str) -> tuple[str, ...]:
    """The controllers that the flag names, each once. Raises ValueError."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no controller; there are {' and '.join(NAMES)}")
    return tuple(dict.fromkeys(names))
