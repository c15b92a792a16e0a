"""Changes that inotify does not tell of: behind links, by writers that never close, after errors that pass."""

from __future__ import annotations

import logging
import os
import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.source import folder, manifests, unread
from tests.unit.controlplane.source.following import until
from tests.unit.controlplane.source.manifests import address, followed, running, service
from tests.unit.controlplane.source.recorder import LIMIT


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "LOOK_SECONDS", 0.02, raising=False)


class Looks:
    """What the source does to the file system; `go_on` and `answers` hold it up while they are clear."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self.read: list[str] = []
        self.listed: list[object] = []
        self.go_on, self.answers = threading.Event(), threading.Event()
        self.go_on.set()
        self.answers.set()
        self._patch, self._look, self._reading, self._scandir = patch, folder.look, folder.reading, os.scandir
        patch.setattr(folder, "look", self.look)
        patch.setattr(folder, "reading", self.reading)
        patch.setattr(os, "scandir", self.scandir)

    def look(self, *args: Any) -> folder.Look:
        self.answers.wait(LIMIT)
        found = self._look(*args)
        self.number += 1
        return found

    def reading(self, top: Path, name: str, known: Any, readers: Any) -> folder.Reading:
        self.go_on.wait(LIMIT)
        self.read.append(name)
        return self._reading(top, name, known, readers)

    def scandir(self, path: Any) -> Any:
        self.listed.append(path)
        return self._scandir(path)

    def settled(self) -> None:
        """Files count as written long ago."""
        self._patch.setattr(folder, "_TICK_NS", 0)

    async def more(self, number: int) -> None:
        """Waits for so many looks."""
        goal = self.number + number
        await until(lambda: self.number >= goal)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def _aside(path: Path, text: str) -> None:
    path.with_suffix(".new").write_text(text)
    path.with_suffix(".new").rename(path)


@contextmanager
def _no_more_files() -> Iterator[None]:
    """Every open fails with EMFILE."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("write", [Path.write_text, _aside])
async def test_a_file_behind_a_link_is_followed(tmp_path: Path, write: Callable[[Path, str], object]) -> None:
    folder, target = tmp_path / "m", tmp_path / "target.yaml"
    folder.mkdir()
    target.write_text(service("a"))
    (folder / "x.yaml").symlink_to(target)
    async with running(folder) as (_, recorder):
        write(target, service("a", "10.96.0.2"))
        await recorder.until(lambda: address(recorder) == "10.96.0.2")


async def test_a_file_that_is_written_through_a_link_is_followed(tmp_path: Path) -> None:
    folder, target = tmp_path / "m", tmp_path / "target.yaml"
    folder.mkdir()
    target.write_text(service("a"))
    (folder / "x.yaml").symlink_to(target)
    async with running(folder) as (_, recorder):
        (folder / "x.yaml").write_text(service("a", "10.96.0.2"))
        await recorder.until(lambda: address(recorder) == "10.96.0.2")


async def test_a_file_whose_links_target_goes_is_gone_and_comes_back_with_it(tmp_path: Path) -> None:
    folder, target = tmp_path / "m", tmp_path / "target.yaml"
    folder.mkdir()
    target.write_text(service("a"))
    (folder / "x.yaml").symlink_to(target)
    async with running(folder) as (source, recorder):
        target.unlink()
        await recorder.until(lambda: recorder.names == set())
        target.write_text(service("a", "10.96.0.2"))
        await recorder.until(lambda: address(recorder) == "10.96.0.2")
        await until(lambda: followed(source).unread == 0)


def _revision(top: Path, name: str, *services: str) -> None:
    (top / name).mkdir()
    for one in services:
        (top / name / f"{one}.yaml").write_text(service(one, f"10.96.0.{name[-1]}"))


def _point(link: Path, to: str) -> None:
    aside = link.with_name("aside")
    aside.symlink_to(to)
    aside.rename(link)


async def test_a_folder_behind_a_link_is_followed_when_the_link_is_swapped(tmp_path: Path) -> None:
    _revision(tmp_path, "rev1", "a", "b")
    _revision(tmp_path, "rev2", "a", "c")
    _point(tmp_path / "current", "rev1")
    async with running(tmp_path / "current") as (_, recorder):
        _point(tmp_path / "current", "rev2")
        await recorder.until(lambda: recorder.names == {"a", "c"})
        assert address(recorder) == "10.96.0.2"
        (tmp_path / "rev2" / "d.yaml").write_text(service("d"))  # of the new folder inotify tells
        await recorder.until(lambda: "d" in recorder.names)


async def test_a_link_that_leads_nowhere_for_a_while_takes_nothing_away(tmp_path: Path) -> None:
    _revision(tmp_path, "rev1", "a", "b")
    _revision(tmp_path, "rev2", "a", "c")
    link = tmp_path / "current"
    _point(link, "rev1")
    async with running(link) as (source, recorder):
        link.unlink()
        (tmp_path / "rev1" / "a.yaml").unlink()  # inotify still tells of the folder that was
        await until(lambda: "gone" in followed(source).error)
        assert recorder.names == {"a", "b"}
        _point(link, "rev2")
        await recorder.until(lambda: recorder.names == {"a", "c"})
        await until(lambda: not followed(source).error)
        assert recorder.problems == {}


async def test_a_file_that_cannot_be_read_for_a_while_is_read_when_it_can(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(service("a"))
    async with running(tmp_path) as (source, recorder):
        descriptor = os.open(file, os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, service("a", "10.96.0.2").encode())
        with _no_more_files():
            os.close(descriptor)
            await recorder.until(lambda: str(file) in recorder.problems)
            assert "Too many open files" in recorder.problems[str(file)]
            assert address(recorder) == "10.96.0.1"
            assert followed(source).unread == 1
            assert followed(source).error
        await recorder.until(lambda: address(recorder) == "10.96.0.2")
        await until(lambda: followed(source).unread == 0)
        assert recorder.problems == {}
        assert not followed(source).error


async def test_a_file_that_cannot_be_read_at_the_start_is_read_when_it_can(tmp_path: Path) -> None:
    (tmp_path / "dead1").symlink_to("dead1")
    (tmp_path / "a.yaml").symlink_to("dead1/a.yaml")
    async with running(tmp_path) as (source, recorder):
        assert "symbolic links" in recorder.problems[str(tmp_path / "a.yaml")]
        assert followed(source).unread == 1
        assert followed(source).error.startswith("not all files are read: a.yaml: ")
        (tmp_path / "dead1").unlink()
        _revision(tmp_path, "dead1", "a")
        await recorder.until(lambda: recorder.names == {"a"})
        await until(lambda: not followed(source).error)


async def test_a_writer_that_keeps_its_file_open_is_seen(tmp_path: Path) -> None:
    async with running(tmp_path) as (_, recorder):
        with (tmp_path / "a.yaml").open("w") as file:
            file.write(service("a"))
            file.flush()
            await recorder.until(lambda: recorder.names == {"a"})
            file.write("---\n" + service("b", "10.96.0.2"))
            file.flush()
            await recorder.until(lambda: recorder.names == {"a", "b"})


async def test_a_file_that_a_slow_program_has_emptied_keeps_what_it_said(tmp_path: Path, looks: Looks) -> None:
    """`slow-program > a.yaml` truncates at its start."""
    (tmp_path / "a.yaml").write_text(service("a"))
    async with running(tmp_path) as (source, recorder):
        with (tmp_path / "a.yaml").open("w") as file:
            await looks.more(5)
            assert recorder.updates == []
            assert followed(source).unread == 1
            file.write(service("a", "10.96.0.2"))
        await recorder.until(lambda: address(recorder) == "10.96.0.2")
        assert len(recorder.updates) == 1


async def test_a_look_reads_and_lists_nothing_twice_when_nothing_changed(tmp_path: Path, looks: Looks) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(service(name))
        os.utime(tmp_path / f"{name}.yaml")
    (tmp_path / "c.yaml").mkdir()
    os.mkfifo(tmp_path / "d.yaml")
    looks.settled()
    async with running(tmp_path):
        await looks.more(2)
        read, reports = list(looks.read), len(looks.listed) - looks.number
        await looks.more(5)
        assert looks.read == read
        assert sorted(read) == ["a.yaml", "b.yaml", "c.yaml", "d.yaml"]
        assert len(looks.listed) - looks.number == reports


async def test_more_files_than_the_limit_stay_reported_while_others_are_edited(
    tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(service(name))
    async with running(tmp_path) as (_, recorder):
        (tmp_path / "a.yaml").write_text(service("a", "10.96.0.2"))
        await recorder.until(lambda: address(recorder) == "10.96.0.2")
        await looks.more(2)
        assert recorder.problems == {
            f"{tmp_path} files": "there are more files than the limit of 2: 1 are not read",
        }
        (tmp_path / "a.yaml").unlink()
        await recorder.until(lambda: recorder.names == {"b", "c"} and not recorder.problems)


async def test_a_change_that_waits_for_a_large_file_is_told(
    tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(unread, "LATE_NS", 0)
    (tmp_path / "a.yaml").write_text(service("a"))
    async with running(tmp_path) as (source, recorder):
        await until(lambda: followed(source).unread == 0)
        looks.go_on.clear()  # reading takes long
        (tmp_path / "a.yaml").write_text(service("a", "10.96.0.2"))
        await until(lambda: followed(source).unread == 1)
        assert followed(source).unread_since_unix_nano > 0
        await looks.more(3)
        assert followed(source).error == "not all files are read: a.yaml: changed and not read yet"
        looks.go_on.set()
        await recorder.until(lambda: address(recorder) == "10.96.0.2")
        await until(lambda: followed(source).unread == 0)
        await looks.more(3)
        assert followed(source).error == ""
    told = [record.getMessage() for record in caplog.records if "manifest files" in record.getMessage()]
    assert len(told) == 2


async def test_a_file_system_that_does_not_answer_is_told_and_holds_up_nothing(
    tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "_HUNG_SECONDS", 0.05)
    (tmp_path / "a.yaml").write_text(service("a"))
    async with running(tmp_path) as (source, _):
        looks.answers.clear()
        await until(lambda: "does not answer" in followed(source).error)
        looks.answers.set()
        await until(lambda: not followed(source).error)
