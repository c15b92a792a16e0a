"""State that was kept in the folder all agents shared goes to the node it is of, once."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.stream.events import Record
from nodeagent.stream.journal import Journal
from nodeagent.stream.journal_file import NAME
from nodeagent.stream.old_place import take_over

SNAPSHOT = Record((b"begin", b"chunk", b"end"), whole=True)
OTHER = Record((b"other",), whole=True)


def keep(folder: Path, node: str, record: Record = SNAPSHOT) -> Journal:
    journal = Journal(folder, node)
    journal.keep(record, "cluster-1")
    return journal


def found(folder: Path, node: str) -> list[bytes]:
    journal = Journal(folder, node)
    messages = journal.replay().messages
    journal.close()
    return messages


def test_a_nodes_state_moves_into_its_own_folder_and_leaves_nothing(tmp_path: Path) -> None:
    keep(tmp_path, "a").close()
    own = tmp_path / "default" / "a"
    take_over(own, "a")

    assert found(own, "a") == list(SNAPSHOT.messages)
    assert [path.name for path in tmp_path.iterdir()] == ["default"]


def test_two_agents_of_one_machine_keep_two_states(tmp_path: Path) -> None:
    keep(tmp_path, "a").close()
    for node in ("b", "a"):
        take_over(tmp_path / "default" / node, node)
        if node == "b":
            keep(tmp_path / "default" / node, node, OTHER).close()

    assert found(tmp_path / "default" / "a", "a") == list(SNAPSHOT.messages)
    assert found(tmp_path / "default" / "b", "b") == list(OTHER.messages)


def test_the_same_node_of_another_cluster_keeps_its_own(tmp_path: Path) -> None:
    keep(tmp_path / "one" / "a", "a").close()
    take_over(tmp_path / "two" / "a", "a")

    assert not (tmp_path / "two").exists()


def test_what_another_agent_keeps_stays_where_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    running = keep(tmp_path, "a")
    take_over(tmp_path / "default" / "a", "a")
    running.close()

    assert found(tmp_path, "a") == list(SNAPSHOT.messages)
    assert "state of before is not taken over" in caplog.text
    assert "another agent keeps its state there" in caplog.text


def test_state_that_is_here_already_is_not_replaced(tmp_path: Path) -> None:
    own = tmp_path / "default" / "a"
    keep(tmp_path, "a").close()
    keep(own, "a", OTHER).close()
    take_over(own, "a")

    assert found(own, "a") == list(OTHER.messages)
    assert (tmp_path / NAME).exists()


def test_what_cannot_be_read_is_told_and_left(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / NAME).write_bytes(b"something else")
    take_over(tmp_path / "default" / "a", "a")

    assert (tmp_path / NAME).read_bytes() == b"something else"
    assert "state of before is not taken over" in caplog.text
