"""When a file is read that an event or a look found changed, and what is told of it until then."""

from __future__ import annotations

from typing import Any

from controlplane.source.folder import UNKNOWN, Reading, Stamp
from controlplane.source.unread import EMPTY_NS, LATE_NS, Unread

FIRST, SECOND, EMPTY = Stamp(1, 2, 30, 4), Stamp(1, 2, 60, 5), Stamp(1, 2, 0, 6)


def _look(unread: Unread, now: int, at_once: bool = False, **changed: Stamp | None) -> list[str]:
    """What is read after a look."""
    unread.seen(changed, now, at_once=at_once)
    return sorted(unread.batch())


def _read(unread: Unread, name: str, now: int = 1, **reading: Any) -> None:
    unread.took(name, Reading(documents=None if "reason" in reading else [], **reading), now)
    unread.done()


def test_a_file_that_is_being_written_is_read_when_it_is_still() -> None:
    unread = Unread()
    assert _look(unread, 1, a=FIRST) == []
    assert _look(unread, 2, a=SECOND) == []
    assert _look(unread, 3, a=SECOND) == ["a"]
    assert unread.waiting() == {"a": 1}
    _read(unread, "a", stamp=SECOND)
    assert _look(unread, 4) == []
    assert unread.waiting() == {}


def test_a_folder_that_took_anothers_place_is_read_at_once() -> None:
    assert _look(Unread(), 1, at_once=True, a=FIRST, b=None) == ["a", "b"]


def test_an_emptied_file_is_read_after_a_minute() -> None:
    unread = Unread()
    assert _look(unread, 1, a=EMPTY) == []
    assert _look(unread, EMPTY_NS, a=EMPTY) == []
    assert _look(unread, EMPTY_NS + 1, a=EMPTY) == ["a"]


def test_a_file_that_cannot_be_read_is_tried_again_at_each_look_and_stays_known() -> None:
    unread = Unread()
    unread.queue("a", 5)
    unread.batch()
    _read(unread, "a", now=6, stamp=UNKNOWN, reason="Too many open files")
    assert "a" in unread.taken  # so that a look tells when it goes
    assert unread.waiting() == {"a": 6}
    assert unread.trouble(6) == "not all files are read: a: Too many open files"
    assert _look(unread, 7, a=FIRST) == []
    for now in (8, 9):
        assert _look(unread, now, a=FIRST) == ["a"]
        _read(unread, "a", now=now, stamp=UNKNOWN, reason="Too many open files")
    assert unread.waiting() == {"a": 6}
    assert _look(unread, 10, a=FIRST) == ["a"]
    _read(unread, "a", stamp=FIRST)
    assert unread.waiting() == {}
    assert unread.trouble(10) == ""


def test_a_file_that_was_written_while_it_was_read_counts_as_not_read() -> None:
    unread = Unread()
    unread.queue("a", 5)
    unread.batch()
    _read(unread, "a", now=6, stamp=FIRST, torn=True)
    assert unread.taken == {}
    assert unread.waiting() == {"a": 6}
    assert _look(unread, 7, a=SECOND) == []
    assert _look(unread, 8, a=SECOND) == ["a"]


def test_a_file_of_which_a_later_write_may_leave_the_same_stamp_is_read_once_more_and_counts_as_read() -> None:
    unread = Unread()
    _read(unread, "a", stamp=FIRST, doubtful=True)
    assert _look(unread, 2) == ["a"]
    assert unread.waiting() == {}
    _read(unread, "a", stamp=FIRST)
    assert _look(unread, 3) == []


def test_a_doubtful_file_that_is_being_written_waits_until_it_is_still() -> None:
    unread = Unread()
    _read(unread, "a", stamp=FIRST, doubtful=True)
    assert _look(unread, 2, a=SECOND) == []


def test_a_file_that_is_being_read_is_not_queued_once_more() -> None:
    unread = Unread()
    _look(unread, 1, a=FIRST)
    assert _look(unread, 2, a=FIRST) == ["a"]
    assert not unread.seen({"a": FIRST}, 3, at_once=False)
    unread.queue("a", 4)  # somebody wrote it anew
    assert list(unread.batch()) == ["a"]


def test_a_change_is_late_when_it_waits_for_long_and_the_first_ones_are_named() -> None:
    unread = Unread()
    for name in "edcba":
        unread.queue(name, 1)
    assert unread.late(LATE_NS + 1) == []
    assert unread.trouble(LATE_NS + 1) == ""
    assert unread.late(LATE_NS + 2) == list("abcde")
    text = "; ".join(f"{name}: changed and not read yet" for name in "abc")
    assert unread.trouble(LATE_NS + 2) == f"not all files are read: {text}; and 2 more"
