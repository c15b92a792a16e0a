"""Kubernetes quantities, such as `1500m`, `2` or `1.5k`. Pure."""

from __future__ import annotations

import re
from decimal import Decimal
from math import ceil

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(?:[eE]([+-]?\d{1,2})|([numkMGTPE]|[KMGTPE]i)?)")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY: dict[str, int] = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}


def milli(text: float | str) -> int:
    """Thousandths, rounded up (resource.Quantity.MilliValue). Raises ValueError."""
    match = _FORM.fullmatch(str(text).strip()) if len(str(text)) <= 64 else None
    if match is None:
        raise ValueError(f"{str(text)[:64]!r} is not a quantity")
    number, exponent, suffix = match.groups()
    if suffix in _BINARY:
        return ceil(Decimal(number) * 1000 * (1 << _BINARY[suffix]))
    power: int = int(exponent) if exponent else _DECIMAL[suffix or ""]
    return ceil(Decimal(number).scaleb(power + 3))
