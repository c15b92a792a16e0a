"""Addresses that are as long as their family says: another length would shift what follows in a message.

The entry checks see to it for objects; every backend asks again before it packs any. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.forwarding import Entry, FrontendKind, Hairpin, Target
from deltaplane.model import WIDTHS


def check(entry: Entry) -> None:
    """Raises ValueError for an address that is none of the entry's family."""
    front = entry.frontend
    width = WIDTHS[front.family]
    if len(front.address) != (0 if front.kind == FrontendKind.NODE_PORT else width):
        raise _wrong(front.address, front.family)
    _check_targets(entry.targets, width, front.family)
    if entry.local_targets:
        _check_targets(entry.local_targets, width, front.family)


def _check_targets(targets: Iterable[Target], width: int, family: int) -> None:
    for address, _ in targets:
        if len(address) != width:
            raise _wrong(address, family)


def check_hairpins(hairpins: Iterable[Hairpin]) -> None:
    """Raises ValueError for an address of neither family."""
    check_addresses(address for address, _, _ in hairpins)


def check_addresses(addresses: Iterable[bytes]) -> None:
    """Raises ValueError for one of neither family."""
    for address in addresses:
        if len(address) not in WIDTHS.values():
            raise ValueError(f"{address.hex() or 'nothing'} is no address")


def _wrong(address: bytes, family: int) -> ValueError:
    return ValueError(f"{address.hex() or 'nothing'} is no IPv{family} address")
