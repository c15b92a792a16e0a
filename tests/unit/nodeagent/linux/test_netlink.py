"""Netlink's frames and answers, with a socket that says what a script has. Real kernels are in tests/kernel."""

from __future__ import annotations

import errno
import os
import select
from pathlib import Path
from struct import pack

import pytest

from nodeagent.linux import netns
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkSocket
from nodeagent.linux.timerfd import Timer
from tests.fakes.netlink import Scripted, over


def played(*script: bytes | OSError) -> NetlinkSocket:
    return over(Scripted(*script))


def said(sequence: int, code: int = 0, kind: int = wire.ERROR) -> bytes:
    return wire.frame(kind, 0, sequence, pack("=i", -code) + bytes(16))


def request(flags: int) -> bytes:
    return wire.frame(rt.GET_LINK, wire.REQUEST | flags, 7, b"")


def test_a_listing_ends_with_its_own_end_and_skips_what_others_left() -> None:
    made = played(
        said(6, errno.EIO) + wire.frame(16, 2, 7, b"aaaa"), wire.frame(16, 2, 7, b"bbbb") + said(7, kind=wire.DONE)
    )
    assert [frame.body for frame in made.ask(request(wire.DUMP))] == [b"aaaa", b"bbbb"]


def test_a_question_without_an_acknowledgement_has_one_answer() -> None:
    assert [frame.body for frame in played(wire.frame(16, 0, 7, b"one")).ask(request(0))] == [b"one"]


def test_a_refusal_is_the_kernels_errno() -> None:
    with pytest.raises(PermissionError):
        list(played(said(7, errno.EPERM)).ask(request(wire.ACK)))


def test_silence_is_a_time_out() -> None:
    with pytest.raises(TimeoutError):
        list(played().ask(request(wire.ACK)))


def test_what_is_refused_of_many_messages_comes_before_the_last_ones_answer() -> None:
    made = played(said(1, 9) + said(4, errno.ENOENT), said(6))
    assert [(reply.sequence, reply.errno) for reply in made.refused(3, 6)] == [(4, errno.ENOENT), (6, 0)]


def test_what_was_lost_between_two_datagrams_is_told() -> None:
    gap = OSError(errno.ENOBUFS, "no room")
    assert played(b"a", b"b").heard() == ([b"a", b"b"], True)
    assert played(b"a", gap, b"b", gap, gap).heard() == ([b"a", b"b"], False)
    with pytest.raises(OSError, match="broken"):
        played(b"a", OSError(errno.EIO, "broken")).heard()


@pytest.mark.parametrize("cut", [1, 15, 17, 19])
def test_a_message_cut_short_ends_a_datagram(cut: int) -> None:
    whole = wire.frame(1, 0, 1, b"1234")
    assert [frame.body for frame in wire.frames(whole + whole[:cut])] == [b"1234"]


def test_a_timer_ticks_once_a_period() -> None:
    timer = Timer(0.01)
    try:
        assert select.select([timer], [], [], 20)[0]
        assert timer.ticked()
        timer.start(1000)
        assert not timer.ticked()
    finally:
        timer.close()


def test_a_thread_that_is_in_the_namespace_stays_there() -> None:
    descriptor = netns.opened()
    try:
        with netns.inside(descriptor):
            assert os.path.samestat(Path("/proc/thread-self/ns/net").stat(), os.fstat(descriptor))
    finally:
        os.close(descriptor)
