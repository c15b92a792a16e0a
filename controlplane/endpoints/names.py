"""The names of the controllers, as `--controllers` has them. Pure."""

from __future__ import annotations

SLICES, ENDPOINTS = "endpointslice", "endpoints"
NAMES = (SLICES, ENDPOINTS)


def chosen(text: str) -> tuple[str, ...]:
    """The controllers that the flag names, each once. Raises ValueError."""
    names = [part.strip() for part in text.split(",") if part.strip()]
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise ValueError(f"{unknown[0]!r} is no controller; there are {' and '.join(NAMES)}")
    return tuple(dict.fromkeys(names))
