"""Probes from a namespace: what becomes of a connection, how connections spread, whether any fails while things change.

Called by tests, demo and benchmark; speaks to the servers of `echo`. A refusal, a reset, an unreachable network and a
time-out are different outcomes, because a proxy that drops where it should refuse is wrong.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Self

from tools.lab.echo import LINGER_RESET, family_of, kind_of, number_of
from tools.lab.netns import Namespace

# Clients' ports in a row, apart from node ports. The kernel's own choice may be the same again at once, and comes round
# within seconds, since a reset leaves no TIME_WAIT, while nodes on the way remember a flow for longer. Should one take
# the next connection from that port for a part of it, that goes to the old one's endpoint, whatever the rules say.
_fresh = itertools.cycle(range(32768, 65000))
ANSWER, REFUSED, RESET, TIMEOUT, UNREACHABLE = "answer", "refused", "reset", "timeout", "unreachable"


@dataclass(frozen=True)
class Outcome:
    """`name` and `seen` (the client address the server saw) are filled for an answer only."""

    kind: str
    name: str = ""
    seen: str = ""

    @property
    def answered(self) -> bool:
        return self.kind == ANSWER

    def __str__(self) -> str:
        return f"{self.name} (saw {self.seen})" if self.answered else self.kind


class Connection:
    """A connection (or a UDP flow with one source port) that stays open: `ask` as often as wanted."""

    def __init__(self, space: Namespace, address: str, port: int, protocol: str = "tcp", timeout: float = 2.0) -> None:
        self._socket = space.socket(family_of(address), kind_of(protocol), number_of(protocol))
        self._socket.settimeout(timeout)
        self._connect: Callable[[], None] = lambda: self._socket.connect((address, port))
        self._datagram = protocol == "udp"
        self.local_port = 0

    def open(self, source: tuple[str, int] | None = None) -> Outcome:
        """Connects and returns the first answer. `source`: the client's own address and port ("" and 0: any)."""
        return self._outcome(lambda: self._open(source))

    def _open(self, source: tuple[str, int] | None) -> bytes:
        if source is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(source)
        self._connect()
        self.local_port = self._socket.getsockname()[1]
        if self._datagram:
            send_datagram(self._socket)
        return self._socket.recv(512)

    def ask(self) -> Outcome:
        """One more question on the same connection."""
        return self._outcome(self._ask)

    def _ask(self) -> bytes:
        if self._datagram:
            send_datagram(self._socket)
        else:
            self._socket.send(b"?")
        return self._socket.recv(512)

    def _outcome(self, exchange: Callable[[], bytes]) -> Outcome:
        try:
            return parse(exchange())
        except OSError as failure:
            return Outcome(kind_of_failure(failure))

    def close(self) -> None:
        """At once, with a reset: nothing stays behind in TIME_WAIT."""
        if not self._datagram and self._socket.fileno() >= 0:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def send_datagram(sock: socket.socket) -> None:
    """Asks. A rule of the sender's own host shows as EPERM here; whether it refused or dropped, the next call says."""
    with contextlib.suppress(PermissionError):
        sock.send(b"?")


def parse(reply: bytes) -> Outcome:
    name, _, seen = reply.partition(b"\n")[0].decode().partition(" ")
    return Outcome(ANSWER, name, seen) if name else Outcome(RESET)


def kind_of_failure(failure: OSError) -> str:
    if isinstance(failure, TimeoutError):
        return TIMEOUT
    if isinstance(failure, ConnectionRefusedError):
        return REFUSED
    return RESET if isinstance(failure, (ConnectionResetError, BrokenPipeError)) else UNREACHABLE


def connect(
    space: Namespace,
    address: str,
    port: int,
    protocol: str = "tcp",
    *,
    timeout: float = 2.0,
    source: tuple[str, int] | None = None,
) -> Outcome:
    """One connection from the namespace, asked once and closed."""
    with Connection(space, address, port, protocol, timeout) as connection:
        return connection.open(source)


def many(
    space: Namespace,
    address: str,
    port: int,
    count: int,
    protocol: str = "tcp",
    *,
    timeout: float = 2.0,
) -> Counter[str]:
    """`count` new connections one after the other (some 10,000 per second): how many got which name or failure."""
    found: Counter[str] = Counter()
    with space.entered():
        for own in itertools.islice(_fresh, count):
            outcome = _quick(address, port, protocol, timeout, own)
            found[outcome.name or outcome.kind] += 1
    return found


def _quick(address: str, port: int, protocol: str, timeout: float, own: int) -> Outcome:
    with socket.socket(family_of(address), kind_of(protocol), number_of(protocol)) as sock:
        sock.settimeout(timeout)
        try:
            with contextlib.suppress(OSError):  # taken: the kernel chooses
                sock.bind(("", own))
            sock.connect((address, port))
            if protocol == "udp":
                send_datagram(sock)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            return parse(sock.recv(512))
        except OSError as failure:
            return Outcome(kind_of_failure(failure))


def until(
    expected: Callable[[], object], timeout: float = 30.0, pause: float = 0.02, what: Callable[[], object] | str = ""
) -> None:
    """Waits until `expected()` is true. Raises TimeoutError that says `what` was waited for (and what was seen)."""
    deadline = time.monotonic() + timeout
    while not expected():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what() if callable(what) else what}")
        time.sleep(pause)


@dataclass
class Knocking:
    """What a running client loop has seen. `failures` holds (seconds since the start, outcome)."""

    answers: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[float, Outcome]] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.answers.values()) + len(self.failures)

    def note(self, began: float, outcome: Outcome) -> None:
        if outcome.answered:
            self.answers[outcome.name] += 1
        else:
            self.failures.append((round(time.monotonic() - began, 3), outcome))


@contextmanager
def knocking(
    space: Namespace, address: str, port: int, protocol: str = "tcp", *, pause: float = 0.005, keep: bool = False
) -> Iterator[Knocking]:
    """Meanwhile a thread connects again and again (`keep`: asks again and again on one connection) and counts.

    Returns only after the first attempt is through, and at the end waits for the one under way.
    """
    seen, over, first = Knocking(), threading.Event(), threading.Event()

    def fresh() -> Outcome:
        return connect(space, address, port, protocol)

    def body() -> None:
        began = time.monotonic()
        with Connection(space, address, port, protocol) as kept:
            for attempt in itertools.count():
                again = (kept.ask if attempt else kept.open) if keep else fresh
                seen.note(began, again())
                first.set()
                if over.wait(pause):
                    return

    thread = threading.Thread(target=body, name="knocking", daemon=True)
    thread.start()
    try:
        first.wait()
        yield seen
    finally:
        over.set()
        thread.join()
