"""The OOM score is set where that is allowed, and no reason to end where it is not."""

from __future__ import annotations

from pathlib import Path

from nodeagent.node import oom


def test_the_score_is_set(tmp_path: Path) -> None:
    file = tmp_path / "oom_score_adj"
    file.write_text("0\n")

    assert oom.adjust(-999, file)
    assert file.read_text() == "-999\n"


def test_a_score_that_is_right_is_not_written(tmp_path: Path) -> None:
    file = tmp_path / "oom_score_adj"
    file.write_text("5")

    assert oom.adjust(5, file)
    assert file.read_text() == "5"


def test_where_it_cannot_be_set_the_agent_goes_on(tmp_path: Path) -> None:
    assert not oom.adjust(5, tmp_path / "missing")
