"""Named packet counters of the kernel (nfacct) that rules count into, as kube-proxy has them: over netlink, no program.

Optional: a kernel without them has the same rules without counting.
"""

from __future__ import annotations

import errno

from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

_SUBSYSTEM = 7  # NFNL_SUBSYS_ACCT
_NEW, _GET, _DELETE = 0, 1, 3  # NFNL_MSG_ACCT_*
_NAME, _PACKETS = 1, 2  # NFACCT_NAME, NFACCT_PKTS


class Accounts:
    """In the network namespace of the calling thread. Raises OSError."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NetlinkProtocol.NETFILTER)

    def ensure(self, name: str) -> bool:
        """Whether the counter is there now; one that was there keeps its count."""
        code, _ = self._ask(_NEW, wire.CREATE, name)
        return code in (0, errno.EBUSY, errno.EEXIST)

    def packets(self, name: str) -> int | None:
        """What it has counted; None where it is not there."""
        code, answer = self._ask(_GET, 0, name)
        return None if code or answer is None else wire.as_number(wire.attributes(answer.body)[_PACKETS])

    def delete(self, name: str) -> bool:
        """Whether it was there and nothing counts into it any more."""
        return self._ask(_DELETE, 0, name)[0] == 0

    def close(self) -> None:
        self._socket.close()

    def _ask(self, operation: int, flags: int, name: str) -> tuple[int, wire.Message | None]:
        """The kernel's errno, and what it told."""
        head = (_SUBSYSTEM << 8 | operation, flags | wire.REQUEST | wire.ACK, 1)
        answer = None
        try:
            for frame in self._socket.ask(wire.message(head, 0, wire.text(_NAME, name))):
                answer = wire.message_of(frame)
        except OSError as error:
            return error.errno or errno.EIO, answer
        return 0, answer
