"""Files that go together are one change, and what is wrong with reading one file is that file's matter."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.source import documents, folder, manifests
from tests.unit.controlplane.source.manifests import address, running, service

MANY = 40


def fill(directory: Path) -> None:
    for number in range(MANY):
        (directory / f"s{number}.yaml").write_text(service(f"s{number}", f"10.96.1.{number}"))


async def test_files_that_go_one_after_the_other_are_one_change(tmp_path: Path) -> None:
    fill(tmp_path)
    (tmp_path / "stays.yaml").write_text(service("stays"))
    async with running(tmp_path) as (source, recorder):
        names = [f"s{number}.yaml" for number in range(MANY)]
        gone = await _take_away(source, tmp_path, names)
        await recorder.until(lambda: recorder.names == {"stays"})
        assert [len(update) for update in recorder.updates if update] == [MANY]
        assert gone > 1


async def _take_away(source: manifests.ManifestSource, directory: Path, names: list[str]) -> int:
    """Removes the files in several portions, each after the one before was read; returns how many."""
    portions = [names[start : start + manifests._MANY] for start in range(0, len(names), manifests._MANY)]
    told = source._unread.took
    read: list[str] = []

    def took(name: str, read_: folder.Reading, now: int) -> None:
        told(name, read_, now)
        read.append(name)
        if portions and read.count(name) == 1 and set(removed) <= set(read):
            remove()

    removed: list[str] = []

    def remove() -> None:
        for name in portions.pop(0):
            removed.append(name)
            (directory / name).unlink()

    source._unread.took = took  # type: ignore[method-assign,assignment]
    count = len(portions)
    remove()
    return count


async def test_a_defect_in_reading_one_file_leaves_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parse = documents.parse

    def broken(text: str, *more: object) -> object:
        if "bad" in text:
            raise TypeError("object of type 'NoneType' has no len()")
        return parse(text, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(folder, "parse", broken)
    async with running(tmp_path) as (_, recorder):
        (tmp_path / "a-bad.yaml").write_text(service("bad"))
        (tmp_path / "b-good.yaml").write_text(service("a"))
        await recorder.until(lambda: bool(address(recorder)) and len(recorder.problems) > 0)
        assert "TypeError" in "".join(recorder.problems.values())


async def test_a_file_for_which_there_was_no_memory_is_read_when_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, full = documents.parse, True

    def narrow(text: str, *more: object) -> object:
        if full:
            raise MemoryError
        return parse(text, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(folder, "parse", narrow)
    monkeypatch.setattr(manifests, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(folder, "_TICK_NS", 0)  # no file is read once more because its stamp is new
    async with running(tmp_path) as (_, recorder):
        (tmp_path / "a.yaml").write_text(service("a"))
        await recorder.until(lambda: any("not enough memory" in text for text in recorder.problems.values()))
        full = False
        await recorder.until(lambda: bool(address(recorder)))
