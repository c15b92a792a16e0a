"""What lies in the state folder is read and written only where it is this agent's own."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from nodeagent.stream import frames
from nodeagent.stream.events import Record
from nodeagent.stream.journal import BACKOFF, Journal
from nodeagent.stream.journal_file import BAD, FRESH, LOCK, NAME

SNAPSHOT = Record((b"begin", b"chunk" * 100, b"end"), whole=True)
root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def attempt(folder: Path) -> tuple[Journal, list[str]]:
    """A start and a first snapshot."""
    said: list[str] = []
    journal = Journal(folder, report=said.append)
    assert journal.replay().messages == []
    journal.keep(SNAPSHOT)
    journal.close()
    return journal, said


def test_the_file_is_0600_in_a_folder_of_0700(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    attempt(folder)
    assert (mode(folder), mode(folder / NAME)) == (0o700, 0o600)


def test_a_wider_folder_and_file_of_ours_are_closed_to_others(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    journal, _ = attempt(folder)
    folder.chmod(0o777)
    journal.path.chmod(0o644)
    again = Journal(folder)
    assert again.replay().messages == list(SNAPSHOT.messages)
    assert (mode(folder), mode(journal.path)) == (0o700, 0o600)


def test_a_folder_with_files_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    """`--state-dir=/var/lib` must not close /var/lib to everybody."""
    (tmp_path / "other").touch()
    tmp_path.chmod(0o755)
    _, said = attempt(tmp_path)
    assert (said, mode(tmp_path), mode(tmp_path / NAME)) == ([], 0o755, 0o600)


def test_a_folder_others_write_to_with_files_of_others_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    tmp_path.chmod(0o1777)
    journal, said = attempt(tmp_path)
    assert len(said) == 1
    assert "others may write" in said[0]
    assert "--state-dir" in said[0]
    assert not journal.path.exists()


@root
def test_a_folder_of_somebody_else_is_refused_once_and_clearly(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 12345)
    journal, said = attempt(tmp_path)
    assert len(said) == 1
    assert "belongs to user 12345" in said[0]
    assert "chown" in said[0]
    assert list(tmp_path.iterdir()) == []
    assert journal.broken


def test_a_link_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "state").symlink_to("elsewhere")
    _, said = attempt(tmp_path / "state")
    assert "is a link" in said[0]
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize("name", [NAME, FRESH])
@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_a_link_never_leads_to_a_file_of_others(tmp_path: Path, name: str, link: str) -> None:
    victim = tmp_path / "victim"
    victim.write_text("important")
    victim.chmod(0o644)
    folder = tmp_path / "state"
    folder.mkdir()
    if link == "symbolic":
        (folder / name).symlink_to(victim)
    else:
        (folder / name).hardlink_to(victim)
    attempt(folder)
    assert (victim.read_text(), mode(victim)) == ("important", 0o644)
    assert not (folder / NAME).is_symlink()
    assert Journal(folder).replay().messages == list(SNAPSHOT.messages)
    assert not (folder / FRESH).exists()


def test_a_fifo_is_not_waited_for(tmp_path: Path) -> None:
    for name in (NAME, FRESH):
        os.mkfifo(tmp_path / name)
    _, said = attempt(tmp_path)
    assert "is not a regular file" in said[0]
    assert Journal(tmp_path).replay().messages == list(SNAPSHOT.messages)


def test_a_folder_in_place_of_the_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    journal, said = attempt(tmp_path)
    assert len(said) == 1
    assert not journal.kept
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, LOCK]


@root
def test_a_file_of_somebody_else_is_not_read(tmp_path: Path) -> None:
    journal, _ = attempt(tmp_path)
    os.chown(journal.path, 12345, -1)
    _, said = attempt(tmp_path)
    assert "belongs to user 12345" in said[0]


def test_zeros_behind_the_frames_end_them(tmp_path: Path) -> None:
    journal, _ = attempt(tmp_path)
    size = journal.path.stat().st_size
    os.truncate(journal.path, size + (3 << 30))  # takes no room
    again = Journal(tmp_path)
    found = again.replay()
    assert found.messages == list(SNAPSHOT.messages)
    again.resume(found, len(found.messages))
    assert journal.path.stat().st_size == size
    again.close()


def test_no_more_is_read_than_the_limit(tmp_path: Path) -> None:
    journal, _ = attempt(tmp_path)
    with journal.path.open("rb") as file:
        assert frames.read(file, limit=200).messages == [b"begin"]


def test_a_frame_that_claims_gigabytes_is_not_read(tmp_path: Path) -> None:
    journal, _ = attempt(tmp_path)
    with journal.path.open("ab") as file:
        file.write(b"\xff\xff\xff\x7f" + b"1234")
        file.truncate(3 << 30)
    assert Journal(tmp_path).replay().messages == list(SNAPSHOT.messages)


def test_what_is_no_journal_is_set_aside_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text("notes")
    (tmp_path / NAME).chmod(0o644)
    (tmp_path / BAD).write_text("an earlier one")
    _, said = attempt(tmp_path)
    assert len(said) == 1
    assert "does not begin as a journal" in said[0]
    assert ((tmp_path / BAD).read_text(), mode(tmp_path / BAD)) == ("notes", 0o600)


def test_two_agents_never_write_to_one_folder_and_the_second_waits_for_the_first(tmp_path: Path) -> None:
    said: list[str] = []
    first, second = Journal(tmp_path), Journal(tmp_path, report=said.append)
    first.keep(SNAPSHOT)
    second.keep(SNAPSHOT)
    assert (first.kept, second.kept) == (True, False)
    assert len(said) == 1
    assert "another agent keeps its state there" in said[0]
    assert not second.due(0.0)
    first.close()
    assert second.due(BACKOFF.first)
    second.keep(SNAPSHOT)
    assert said[1:] == [f"{second.path}: state is kept again"]
    second.close()


def test_what_is_kept_can_be_removed_for_good_and_nothing_else_goes_with_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    assert not Journal(folder).remove()
    assert not folder.exists()
    attempt(folder)
    (folder / "notes").write_text("an operator's own")
    assert Journal(folder).remove()
    assert [path.name for path in folder.iterdir()] == ["notes"]
    assert not Journal(folder).remove()


def test_a_second_agent_of_another_name_leaves_the_firsts_state_in_its_place(tmp_path: Path) -> None:
    """It must not judge, let alone move, what another process writes to."""
    said: list[str] = []
    first, second = Journal(tmp_path, "node-a"), Journal(tmp_path, "node-b", report=said.append)
    first.keep(SNAPSHOT)
    second.set_aside("it is the state of node node-a, and this is node-b")
    assert first.path.exists()
    assert not (tmp_path / BAD).exists()
    assert "another agent keeps its state there" in said[0]
    first.close()
    assert Journal(tmp_path, "node-a").replay().messages == list(SNAPSHOT.messages)
