"""Has the kernel load connection tracking, whose settings are not there before. It does so when it is first asked."""

from __future__ import annotations

from contextlib import closing

from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

_SUBSYSTEM = 1  # NFNL_SUBSYS_CTNETLINK
_STATS = 5  # IPCTNL_MSG_CT_GET_STATS


def load() -> bool:
    """Whether it answers: the kernel may be without, or the caller without CAP_NET_ADMIN."""
    head = (_SUBSYSTEM << 8 | _STATS, wire.REQUEST | wire.ACK, 1)
    try:
        with closing(NetlinkSocket(NetlinkProtocol.NETFILTER)) as asking:
            return any(True for _ in asking.ask(wire.message(head, 0, b"")))
    except OSError:
        return False
