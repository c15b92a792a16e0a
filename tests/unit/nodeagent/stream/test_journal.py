"""The journal gives back what was kept up to the first damage, and never fails the agent."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.stream.events import Record
from nodeagent.stream.journal import Journal
from nodeagent.stream.journal_file import LOCK, NAME

SNAPSHOT = Record((b"begin", b"chunk" * 100, b"end"), whole=True)
DELTA = Record((b"delta",), whole=False)


def kept(path: Path) -> list[bytes]:
    journal = Journal(path)
    found = journal.replay()
    journal.close()
    return found.messages


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for record in (SNAPSHOT, DELTA, DELTA):
        journal.keep(record)
    journal.close()
    assert kept(tmp_path) == [*SNAPSHOT.messages, b"delta", b"delta"]


def test_a_new_beginning_replaces_the_old(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for record in (SNAPSHOT, DELTA, Record((b"new",), whole=True)):
        journal.keep(record)
    assert kept(tmp_path) == [b"new"]
    assert {path.name for path in tmp_path.iterdir()} == {NAME, LOCK}
    journal.close()


def test_a_delta_without_a_beginning_is_not_kept(tmp_path: Path) -> None:
    Journal(tmp_path).keep(DELTA)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("damage", [-1, -5, -9, -13])
def test_a_tail_cut_short_is_dropped_and_written_over(tmp_path: Path, damage: int) -> None:
    journal = Journal(tmp_path)
    journal.keep(SNAPSHOT)
    journal.keep(DELTA)
    journal.close()
    data = journal.path.read_bytes()
    journal.path.write_bytes(data[:damage])
    again = Journal(tmp_path)
    found = again.replay()
    assert found.messages == list(SNAPSHOT.messages)
    again.resume(found, len(found.messages))
    again.keep(Record((b"later",), whole=False))
    again.close()
    assert kept(tmp_path) == [*SNAPSHOT.messages, b"later"]


@pytest.mark.parametrize("damage", ["cut short", "in the middle", "zeros behind"])
def test_what_is_lost_of_a_file_is_told_and_counted_once(tmp_path: Path, damage: str) -> None:
    journal = Journal(tmp_path)
    for record in (SNAPSHOT, DELTA, DELTA):
        journal.keep(record)
    journal.close()
    data = bytearray(journal.path.read_bytes())
    at = data.index(b"delta", len(b"deltaplane"))
    data[at] ^= damage == "in the middle"
    journal.path.write_bytes(data[:-1] if damage == "cut short" else data + bytes(9 * (damage == "zeros behind")))
    lost = {"cut short": 21, "in the middle": 44, "zeros behind": 9}[damage]

    told: list[str] = []
    again = Journal(tmp_path, report=told.append)
    found = again.replay()
    (line,) = told
    assert f"{journal.path}: its last {lost} bytes are cut short or damaged" in line
    assert again.failures == 1
    again.resume(found, len(found.messages))
    again.close()
    Journal(tmp_path, report=told.append).replay()
    assert len(told) == 1  # it was cut off


def test_a_damaged_frame_ends_the_replay(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for record in (SNAPSHOT, DELTA, DELTA):
        journal.keep(record)
    journal.close()
    data = bytearray(journal.path.read_bytes())
    data[-31] ^= 1  # inside the first delta
    journal.path.write_bytes(data)
    assert kept(tmp_path) == list(SNAPSHOT.messages)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff" * 100])
def test_a_foreign_file_is_no_state(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.journal").write_bytes(content)
    assert kept(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_reported_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    said: list[str] = []
    journal = Journal(tmp_path / "file" / "state", report=said.append)
    for record in (SNAPSHOT, DELTA, SNAPSHOT):
        journal.keep(record)
    assert len(said) == 1
    assert "cannot keep state" in said[0]
    (tmp_path / "file").unlink()
    journal.keep(SNAPSHOT)
    assert "kept again" in said[1]
    journal.close()


def test_a_full_disk_stops_the_journal_until_the_next_beginning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    journal = Journal(tmp_path, report=said.append)
    journal.keep(SNAPSHOT)
    with monkeypatch.context() as patched:
        patched.setattr("os.write", lambda _, data: len(data) // 2)
        journal.keep(DELTA)
    journal.keep(DELTA)
    assert len(said) == 1
    assert kept(tmp_path) == list(SNAPSHOT.messages)
    journal.keep(SNAPSHOT)
    journal.keep(DELTA)
    journal.close()
    assert kept(tmp_path) == [*SNAPSHOT.messages, b"delta"]


def test_it_is_full_beyond_its_limit_but_not_because_of_a_large_beginning(tmp_path: Path) -> None:
    journal = Journal(tmp_path, max_bytes=200)
    journal.keep(SNAPSHOT)
    assert not journal.full()
    journal.keep(Record((b"x" * 2000,), whole=False))
    assert journal.full()
    journal.keep(Record((b"small",), whole=True))
    assert not journal.full()
    journal.close()
