"""Runs of the two-node cluster: one is alive as long as its process holds its lock, and dead without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.lab import netns
from tools.lab.cluster import cgroups, leftovers, runs
from tools.lab.cluster.runs import Run


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs, and a machine without control groups."""
    monkeypatch.setattr(runs, "FOLDER", tmp_path / "clusters")
    monkeypatch.setattr(cgroups, "hierarchies", list)
    monkeypatch.setattr(netns, "sweep", list)
    monkeypatch.setattr(netns, "listed", list)
    return tmp_path / "clusters"


def test_a_run_is_alive_until_it_is_closed() -> None:
    run = runs.opened()
    living = [each.name for each in runs.listed() if each.alive]
    removed = leftovers.removed()

    leftovers.remove_folder(run)
    run.close()

    assert (living, removed) == ([run.name], [])
    assert not run.alive
    assert runs.listed() == []


def test_a_process_has_one_run() -> None:
    run = runs.opened()

    with pytest.raises(FileExistsError, match="has a cluster already"):
        runs.opened()

    assert run.alive
    run.close()


def test_what_a_dead_run_left_is_found_and_removed_and_its_folder_too(apart: Path) -> None:
    dead = Run(f"{runs.PREFIX}999999999")
    (dead.folder / "node-1").mkdir(parents=True)
    dead.lock_path.touch()

    assert leftovers.found() == [f"run {dead.name}"]
    assert leftovers.removed() == [dead.name]
    assert leftovers.found() == []
    assert not apart.exists()
