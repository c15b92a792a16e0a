"""The sockets of the mode and its two programs; tests have the same in memory.

Netlink handles a request while `send` runs, so every answer is waiting when it returns. A socket belongs to the network
namespace of the thread that made the kernel; the two programs, and the kernel's settings, to that of the thread that
calls.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple, Protocol

from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.programs import LOCK_WAIT, run, which
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket

_BUFFER = 8 << 20  # bytes; ceilings
FAMILY_NAME = "IPVS"


class Channel(IntEnum):
    """The three kinds of netlink that the mode uses."""

    ROUTE = NetlinkProtocol.ROUTE  # links and addresses
    SETS = NetlinkProtocol.NETFILTER  # ipset
    IPVS = NetlinkProtocol.GENERIC


class Refusal(NamedTuple):
    """A message the kernel did not take."""

    sequence: int
    code: int


class Kernel(Protocol):
    """What the dataplane needs of a kernel."""

    ipvs: int  # the type of IPVS's messages

    def send(self, channel: Channel, data: bytes, last: int) -> list[Refusal]:
        """Hands over messages, of which the last, sequence `last`, asks for an answer; gives what was refused.

        Raises KernelUnavailable where the kernel did not answer.
        """

    def ask(self, channel: Channel, request: bytes) -> Iterator[bytes]:
        """What follows netlink's header in each message of the answer. Raises OSError with the kernel's errno."""

    def save(self, family: int) -> str:
        """All rules as `iptables-save` prints them. Raises OSError."""

    def restore(self, family: int, text: str) -> None:
        """Gives `iptables-restore --noflush` a text. Raises OSError with what it complained about."""

    def has(self, family: int) -> bool:
        """Whether the kernel speaks this IP version."""

    def close(self) -> None:
        """Ends the conversation."""


class NetlinkKernel:
    """The real kernel. Raises DataplaneUnavailable where there is no IPVS."""

    def __init__(self) -> None:
        self._sockets: dict[Channel, NetlinkSocket] = {}
        try:
            for channel in Channel:
                kind = NetlinkProtocol(channel)
                self._sockets[channel] = NetlinkSocket(kind, send_buffer=_BUFFER, receive_buffer=_BUFFER)
            self.ipvs = self._family()
        except OSError as error:
            self.close()
            raise DataplaneUnavailable(f"ipvs: {_advice(error)}") from error
        self._ipv6 = Path("/proc/thread-self/net/if_inet6").exists()

    def _family(self) -> int:
        for body in self.ask(Channel.IPVS, codec.family_request(FAMILY_NAME, 1)):
            return codec.number(wire.attributes(body[4:])[codec.FAMILY_ID])
        raise FileNotFoundError(errno.ENOENT, "no such family")

    def port(self, channel: Channel) -> int:
        """What the kernel calls the socket; some of its notifications name it."""
        return self._sockets[channel].port

    def send(self, channel: Channel, data: bytes, last: int) -> list[Refusal]:
        connection = self._sockets[channel]
        try:
            connection.send(data)
            return [Refusal(said.sequence, said.errno) for said in connection.refused(0, last) if said.errno]
        except OSError as error:
            reason = "no answer" if isinstance(error, TimeoutError) else os.strerror(error.errno or 0)
            raise KernelUnavailable(
                f"ipvs: sending {len(data)} bytes over {channel.name} failed ({reason}); it is retried"
            ) from error

    def ask(self, channel: Channel, request: bytes) -> Iterator[bytes]:
        return (frame.body for frame in self._sockets[channel].ask(request))

    def save(self, family: int) -> str:
        return _iptables(family, "save")

    def restore(self, family: int, text: str) -> None:
        _iptables(family, "restore", text, "--noflush", "-w", str(LOCK_WAIT))

    def has(self, family: int) -> bool:
        return family == 4 or self._ipv6

    def close(self) -> None:
        for connection in self._sockets.values():
            connection.close()


def is_loaded() -> bool:
    """Whether the kernel has IPVS now, without loading it."""
    return Path("/proc/thread-self/net/ip_vs").exists()


def _iptables(family: int, action: str, text: str = "", *arguments: str) -> str:
    name = f"{'iptables' if family == 4 else 'ip6tables'}-{action}"
    program = which(name)
    if program is None:
        raise FileNotFoundError(errno.ENOENT, f"there is no {name}: install iptables")
    code, output, said = run([program, *arguments], text)
    if code:
        raise OSError(errno.EINVAL, f"{name}: exit {code}: {said[:300]}")
    return output


def _advice(error: OSError) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return "no permission: give the agent CAP_NET_ADMIN in this network namespace"
    if error.errno == errno.ENOENT:
        return "this kernel has no IPVS: load the module ip_vs or choose another proxy mode"
    reason = os.strerror(error.errno or 0)
    return f"the kernel does not answer ({reason}): look at the kernel log or choose another proxy mode"


def unavailable(what: str, error: OSError) -> KernelUnavailable:
    """An error of `ask`, `save` or `restore` as the agent's."""
    reason = error.strerror or os.strerror(error.errno or 0)
    advice = "give the agent CAP_NET_ADMIN" if error.errno in (errno.EPERM, errno.EACCES) else "it is retried"
    return KernelUnavailable(f"ipvs: {what} failed ({reason}); {advice}")
