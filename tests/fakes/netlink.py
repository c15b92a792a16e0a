"""A netlink socket that says what a script has."""

from __future__ import annotations

from nodeagent.linux.netlink.socket import NetlinkSocket


class Scripted:
    """`recv` gives the next datagram, or raises it; after the last there is nothing. `sent`: what was asked."""

    def __init__(self, *script: bytes | OSError) -> None:
        self.script = list(script)
        self.sent: list[bytes] = []
        self.closed = False

    def send(self, data: bytes) -> int:
        self.sent.append(data)
        return len(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self.script:
            raise BlockingIOError
        said = self.script.pop(0)
        if isinstance(said, OSError):
            raise said
        return said

    def setsockopt(self, *arguments: int) -> None:
        """Groups are joined."""

    def close(self) -> None:
        self.closed = True


def over(scripted: Scripted) -> NetlinkSocket:
    """The product's socket on this one in place of the kernel's."""
    made = object.__new__(NetlinkSocket)
    made._socket = scripted  # type: ignore[assignment]
    return made
