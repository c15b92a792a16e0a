"""What rtnetlink says about this machine's addresses, as the monitor needs it. Pure; called by `monitor` only."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.rtnetlink import Holding
from nodeagent.linux.netlink.wire import Frame

INTERRUPTED = 0x10  # NLM_F_DUMP_INTR: something changed during the listing, so that it may lack something


class Notice(NamedTuple):
    """One message: an address is there or gone, or the listing is over (with the kernel's errno), or neither."""

    holding: Holding | None = None
    gone: bool = False
    interrupted: bool = False
    errno: int | None = None  # 0: the listing is complete


def listing(sequence: int) -> bytes:
    """The request for all addresses of all families."""
    return wire.frame(rt.GET_ADDRESS, wire.REQUEST | wire.DUMP, sequence, rt.all_addresses())


def notices(data: bytes) -> Iterator[Notice]:
    """The messages of one datagram, in order; those about something else say nothing."""
    return map(_notice, wire.frames(data))


def _notice(frame: Frame) -> Notice:
    kind, interrupted = frame.type, bool(frame.flags & INTERRUPTED)
    if kind in (wire.ERROR, wire.DONE):
        return Notice(interrupted=interrupted, errno=wire.errno_of(frame))
    if kind in (rt.NEW_ADDRESS, rt.DEL_ADDRESS):
        return Notice(rt.read_holding(frame.body), kind == rt.DEL_ADDRESS, interrupted)
    return Notice()
