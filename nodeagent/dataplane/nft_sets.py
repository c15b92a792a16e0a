"""What nftables mode and userspace mode's nft redirects write into their tables in the same way. Pure.

Refusals are verdict elements that go to one chain, and are called "reject" beside "drop".
"""

from __future__ import annotations

from nodeagent.dataplane import set_members
from nodeagent.dataplane.set_members import RANGE_MEMBERS
from nodeagent.linux.nft import elements
from nodeagent.linux.nft.ranges import Range
from nodeagent.linux.nft.transaction import Operation

REJECT_CHAIN = "reject-chain"


def dispatch(key: bytes, name: str) -> bytes:
    """An element of a verdict map: "drop", "reject", or the chain to go to."""
    return elements.dispatch(key, REJECT_CHAIN if name == "reject" else name)


def verdict_name(data: bytes) -> str:
    """What such an element says."""
    name = elements.verdict_name(data)
    return "reject" if name == REJECT_CHAIN else name


def operations(member: bytes) -> list[Operation]:
    """What puts a set's member in, or takes it out."""
    family, kind, key = member[0], member[1], member[2:]
    if kind in RANGE_MEMBERS:
        packed = Range(key[: len(key) // 2], key[len(key) // 2 :]).elements()
    else:
        packed = [elements.member(key)]
    return [(family, set_members.SETS[kind], element) for element in packed]
