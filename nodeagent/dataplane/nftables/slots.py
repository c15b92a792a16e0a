"""Dense slots: which endpoint stands at which index of its frontend's list.

A list is one byte string of values of equal width, slot after slot: 100,000 endpoints then cost their bytes and little
more. `render` makes lists in canonical order, `changes` keeps the kernel's order by these functions. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from deltaplane.model import WIDTHS

ENDPOINT_WIDTHS = {family: width + 4 for family, width in WIDTHS.items()}
"""Bytes of an endpoint value, by family: the address, the port, two zero bytes."""


class SlotChange(NamedTuple):
    """One slot that gets another value; None: it is (or becomes) no slot of the list."""

    slot: int
    before: bytes | None
    after: bytes | None


def split(values: bytes, width: int) -> list[bytes]:
    """The values of a list, in slot order."""
    return [values[start : start + width] for start in range(0, len(values), width)]


def arrange(current: bytes, wanted: bytes, width: int) -> bytes:
    """The list that holds exactly the wanted values with as few slots changed as possible.

    Values that stay keep their slot; new ones take the slots of those that leave, then are appended; slots still free
    are filled by moving the last value down, so that the list stays dense.
    """
    if current == wanted or not current:
        return wanted
    old = split(current, width)
    missing = dict.fromkeys(split(wanted, width))
    holes = []
    for slot, value in enumerate(old):
        if value in missing:
            del missing[value]
        else:
            holes.append(slot)
    added = list(missing)
    for slot, value in zip(holes, added, strict=False):
        old[slot] = value
    if len(added) >= len(holes):
        return b"".join(old + added[len(holes) :])
    return b"".join(_close(old, holes[len(added) :]))


def _close(values: list[bytes], holes: list[int]) -> list[bytes]:
    """Fills holes (ascending) from the end of the list."""
    for slot in reversed(holes):
        last = values.pop()
        if slot < len(values):
            values[slot] = last
    return values


def changed(before: bytes, after: bytes, width: int) -> list[SlotChange]:
    """The slots in which two lists differ, ascending."""
    if before == after:
        return []
    old, new = split(before, width), split(after, width)
    common = min(len(old), len(new))
    found = [SlotChange(slot, old[slot], new[slot]) for slot in range(common) if old[slot] != new[slot]]
    found += [SlotChange(slot, old[slot], None) for slot in range(common, len(old))]
    return found + [SlotChange(slot, None, new[slot]) for slot in range(common, len(new))]
