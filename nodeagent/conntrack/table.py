"""The kernel's connection tracking table: the edge, over netlink.

Two sockets, so that entries can be deleted while a dump goes on. Both belong to the network namespace of the thread
that made the table, whichever thread uses it later; one at a time does. What is held is one datagram of a dump
(32 KiB).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Generator, Iterator, Sequence

from nodeagent.conntrack import wire as conntrack
from nodeagent.conntrack.query import Flow, Query
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

CHUNK = 128  # deletes in one write: were all of them refused, the refusals would still fit the socket's buffer
TRIES = 4  # of a dump that the kernel says was interrupted
_UNKNOWN = (errno.EINVAL, errno.EOPNOTSUPP)
_ADVICE = {
    errno.EPERM: "give the agent CAP_NET_ADMIN in this network namespace",
    errno.EACCES: "give the agent CAP_NET_ADMIN in this network namespace",
    errno.EINVAL: "load the module nf_conntrack_netlink",
}


class NetlinkTable:
    """Implements `query.Table` for the network namespace of the calling thread. Raises KernelUnavailable."""

    def __init__(self) -> None:
        self._filtered = True
        self._sequence = 0
        self._unread = 0  # the sequence of a dump that was not read to its end
        try:
            self._dumps, self._deletes = (NetlinkSocket(NetlinkProtocol.NETFILTER) for _ in range(2))
        except OSError as error:
            raise _unavailable("opening netlink", error) from error

    def flows(self, query: Query) -> Iterator[Flow]:
        try:
            for _ in range(TRIES):
                if (yield from self._dump(query)):
                    return
        except OSError as error:
            raise _unavailable("listing flows", error) from error
        raise KernelUnavailable(f"conntrack: listing flows was interrupted {TRIES} times; it is tried again later")

    def _dump(self, query: Query) -> Generator[Flow, None, bool]:
        """One dump; returns False where the kernel says that it may lack something."""
        try:
            return (yield from self._listed(query))
        except OSError as error:
            if not self._filtered or error.errno not in _UNKNOWN:
                raise
        self._filtered = False  # this kernel knows the question in another form: compare here
        return (yield from self._listed(query))

    def _listed(self, query: Query) -> Generator[Flow, None, bool]:
        self._drain()
        self._sequence += 1
        self._dumps.send(conntrack.dump(query, self._sequence, filtered=self._filtered))
        self._unread = self._sequence
        whole = True
        for message in self._messages():
            whole &= not message.flags & conntrack.INTERRUPTED
            if message.type == conntrack.NEW and (flow := conntrack.flow(message.body, query.protocol)) is not None:
                yield flow
        return whole

    def _messages(self) -> Iterator[wire.Message]:
        """The messages of the dump under way, its end not among them. Raises OSError with the kernel's errno."""
        if not self._unread:
            return
        try:
            for frame in self._dumps.answers(self._unread):
                yield wire.message_of(frame)
        except OSError:
            self._unread = 0
            raise
        self._unread = 0

    def _drain(self) -> None:
        """Reads off what a caller that gave up has left: the kernel runs one dump of a socket at a time."""
        for _ in self._messages():
            pass

    def delete(self, flows: Sequence[Flow]) -> int:
        deleted = 0
        try:
            for start in range(0, len(flows), CHUNK):
                deleted += self._delete(flows[start : start + CHUNK])
        except OSError as error:
            raise _unavailable("deleting stale flows", error) from error
        return deleted

    def _delete(self, flows: Sequence[Flow]) -> int:
        """One write. The kernel answers in order: failures as they happen, and the last one in any case."""
        first, last = self._sequence + 1, self._sequence + len(flows)
        self._sequence = last
        requests = (conntrack.delete(flow, n, answer=n == last) for n, flow in enumerate(flows, first))
        self._deletes.send(b"".join(requests))
        answers = list(self._deletes.refused(first, last))
        gone = sum(_is_missing(answer) for answer in answers)
        return len(flows) - gone

    def close(self) -> None:
        self._dumps.close()
        self._deletes.close()


def _is_missing(answer: wire.Reply) -> bool:
    """Whether the entry had gone by itself, or had made room for another of the same tuple."""
    if answer.errno not in (0, errno.ENOENT):
        raise OSError(answer.errno, os.strerror(answer.errno))
    return bool(answer.errno)


def _unavailable(what: str, error: OSError) -> KernelUnavailable:
    reason = "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
    advice = _ADVICE.get(error.errno or 0, "it is tried again later")
    return KernelUnavailable(f"conntrack: {what} failed ({reason}): {advice}")
