"""What the kernel does seldom, played by two sockets that say what a script has. The rest is in tests/kernel."""

from __future__ import annotations

import errno
import struct
from collections.abc import Sequence

import pytest

from nodeagent.errors import KernelUnavailable
from nodeagent.node.addresses import monitor as edge
from nodeagent.node.addresses.monitor import LISTINGS, Monitor
from tests.fakes.netlink import Scripted, over

NEW, GONE, DONE = 20, 21, 3
INTERRUPTED = 0x10
ONE, TWO, THREE = (bytes([192, 0, 2, number]) for number in (1, 2, 3))
Script = list[bytes | OSError]


def message(kind: int, address: bytes = b"", flags: int = 0) -> bytes:
    told = struct.pack("=BBBBI", 2, 24, 0, 0, 1) + struct.pack("=HH", 8, 2) + address
    body = told if address else struct.pack("=i", 0)
    return struct.pack("=IHHII", 16 + len(body), kind, flags, 1, 0) + body


def made(
    monkeypatch: pytest.MonkeyPatch, asked: Sequence[bytes | OSError], heard: Sequence[bytes | OSError]
) -> Monitor:
    return on(monkeypatch, Scripted(*asked), Scripted(*heard))


def on(monkeypatch: pytest.MonkeyPatch, *scripted: Scripted) -> Monitor:
    """The monitor whose sockets, that asks and that hears, are these."""
    sockets = [over(each) for each in scripted]
    monkeypatch.setattr(edge, "_open", lambda: sockets.pop(0))
    return Monitor()


def test_what_is_heard_during_the_listing_comes_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = made(monkeypatch, [message(NEW, ONE) + message(NEW, TWO), message(DONE)], [message(GONE, ONE)])
    assert monitor.addresses == {TWO}


def test_a_listing_that_was_interrupted_is_made_again_and_both_count(monkeypatch: pytest.MonkeyPatch) -> None:
    first = [message(NEW, ONE, INTERRUPTED), message(DONE, flags=INTERRUPTED)]
    monitor = made(monkeypatch, [*first, message(NEW, TWO), message(DONE)], [])
    assert monitor.addresses == {ONE, TWO}
    assert len(monitor._asking._socket.sent) == 2  # type: ignore[attr-defined]


def test_listings_that_are_always_interrupted_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = made(monkeypatch, [message(NEW, ONE) + message(DONE, flags=INTERRUPTED)] * (LISTINGS + 1), [])
    assert len(monitor._asking._socket.sent) == LISTINGS  # type: ignore[attr-defined]
    assert monitor.addresses == {ONE}


def test_what_is_left_from_before_a_gap_is_not_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    gap = OSError(errno.ENOBUFS, "no room")
    listings = [message(NEW, ONE) + message(DONE), message(NEW, ONE) + message(NEW, TWO) + message(DONE)]
    monitor = made(monkeypatch, listings, [message(NEW, THREE), gap, message(GONE, ONE), gap, message(GONE, TWO)])
    assert monitor.addresses == {ONE, TWO}
    assert not monitor.read()


@pytest.mark.parametrize(
    "asked, heard, text",
    [
        pytest.param([struct.pack("=IHHIIi", 20, 2, 0, 1, 0, -1)], [], "listing .*not permitted", id="refused"),
        pytest.param([TimeoutError("timed out")], [], "listing .*timed out", id="no answer"),
        pytest.param([message(DONE)], [OSError(errno.EIO, "x")], "following .*Input/output error", id="unreadable"),
        pytest.param([message(DONE)], [OSError(errno.ENOBUFS, "x"), OSError(errno.EIO, "x")], "following", id="again"),
    ],
)
def test_a_kernel_that_does_not_answer_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, asked: Script, heard: Script, text: str
) -> None:
    scripted = Scripted(*asked), Scripted(*heard)
    with pytest.raises(KernelUnavailable, match=text) as raised:
        on(monkeypatch, *scripted)
    assert all(each.closed for each in scripted)
    assert "\n" not in str(raised.value)
