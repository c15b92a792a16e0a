"""Manifests that are too large, too deep, endless or no files at all: one line each, and the rest goes on."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.source import documents, manifests
from controlplane.source.manifests import ManifestSource
from deltaplane import bounded
from deltaplane.model import Kind
from tests.unit.controlplane.source.recorder import Recorder

GOOD = 'apiVersion: v1\nkind: Service\nmetadata: {name: good, resourceVersion: "5"}\nspec: {clusterIP: 10.96.0.1}\n'


def _service(name: str, metadata: str = "", port: str = "80") -> str:
    return (
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}{metadata}}}\n"
        f"spec: {{clusterIP: 10.96.0.9, ports: [{{port: {port}}}]}}\n"
    )


def _bomb(levels: int) -> str:
    lines = ["a0: &a0 {apiVersion: v1, kind: Service, metadata: {name: x}, spec: {clusterIP: 10.96.0.7}}"]
    for level in range(1, levels + 1):
        items = ", ".join([f"*a{level - 1}"] * 10)
        lines.append(f"a{level}: &a{level} {{apiVersion: v1, kind: List, items: [{items}]}}")
    return "\n".join([*lines, f"apiVersion: v1\nkind: List\nitems: [*a{levels}]\n"])


HOSTILE = {
    "brackets": ("[" * 100_000, "nested deeper than the limit of 64"),
    "braces": ("{a: " * 100_000, "nested deeper than the limit of 64"),
    "indented": ("".join(" " * n + "a:\n" for n in range(200)), "nested deeper than the limit of 64"),
    "alias bomb": (_bomb(6), "aliases stand for more nodes than the limit of 100000"),
    "self": ("apiVersion: v1\nkind: List\nitems: &x [{apiVersion: v1, kind: List, items: *x}]\n", "alias *x refers to"),
    "hex": (_service("x", port="0x" + "f" * 20_000), "a number of 20002 characters; the limit is 64"),
    "decimal": (_service("x", port="9" * 20_000), "a number of 20000 characters; the limit is 64"),
    "base 60": (_service("x", port="1" + ":59" * 30_000), "a number of 90001 characters; the limit is 64"),
    "empty int": (_service("x", port="!!int ''"), "IndexError"),
    "no bool": (_service("x", port="!!bool perhaps"), "KeyError"),
    "python": (_service("x", port="!!python/object/apply:os.system [ls]"), "could not determine a constructor"),
}


@asynccontextmanager
async def _running(directory: Path) -> AsyncIterator[Recorder]:
    recorder = Recorder()
    task = asyncio.create_task(ManifestSource(directory, recorder, recorder).run())
    try:
        await recorder.until(lambda: len(recorder.synced_kinds) == len(Kind) or task.done())
        yield recorder
        assert not task.done()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_document_is_one_line_with_its_place_and_the_others_are_used(tmp_path: Path, name: str) -> None:
    text, reason = HOSTILE[name]
    (tmp_path / "a.yaml").write_text(f"{text}\n---\n{GOOD}")
    async with _running(tmp_path) as recorder:
        assert recorder.names == {"good"}
        ((where, said),) = recorder.problems.items()
        assert where == f"{tmp_path}/a.yaml document 1"
        assert reason in said
        assert "\n" not in said
        assert len(said) < 400


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_file_that_turns_hostile_keeps_what_it_said(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.yaml").write_text(GOOD)
    async with _running(tmp_path) as recorder:
        (tmp_path / "a.yaml").write_text(HOSTILE[name][0])
        await recorder.until(lambda: recorder.problems)
        assert recorder.names == {"good"}
        (tmp_path / "b.yaml").write_text(_service("later"))
        await recorder.until(lambda: recorder.names == {"good", "later"})


async def test_a_version_of_thousands_of_digits_is_only_text(tmp_path: Path) -> None:
    versions = (_service(name, f', resourceVersion: "{text}"') for name, text in (("a", "9" * 5000), ("b", "77")))
    (tmp_path / "a.yaml").write_text("---\n".join(versions))
    async with _running(tmp_path) as recorder:
        assert recorder.names == {"a", "b"}


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _zero(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _folder(path: Path) -> None:
    path.mkdir()


def _large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(bounded.FILE_BYTES + 1)


@pytest.mark.parametrize("make", [_fifo, _zero, _folder, _large])
async def test_what_is_no_regular_file_of_a_bearable_size_is_named_and_the_rest_is_served(
    tmp_path: Path, make: object
) -> None:
    assert callable(make)
    make(tmp_path / "a.yaml")
    (tmp_path / "b.yaml").write_text(GOOD)
    async with _running(tmp_path) as recorder:
        assert recorder.names == {"good"}
        ((where, said),) = recorder.problems.items()
        assert where == f"{tmp_path}/a.yaml"
        assert said.startswith("cannot be read: it is ")


async def test_a_file_with_too_many_documents_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_DOCUMENTS", 2)
    (tmp_path / "a.yaml").write_text("---\n".join([GOOD] * 3))
    async with _running(tmp_path) as recorder:
        assert recorder.names == set()
        assert "3 documents; the limit is 2" in recorder.problems[f"{tmp_path}/a.yaml"]


async def test_too_many_files_are_named_and_those_that_were_read_are_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifests, "MOST_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.yaml").write_text(_service(name))
    async with _running(tmp_path) as recorder:
        assert recorder.names == {"a", "b"}
        (said,) = recorder.problems.values()
        assert said == "there are more files than the limit of 2: 1 are not read"
        (tmp_path / "a.yaml").unlink()
        await recorder.until(lambda: recorder.names == {"b"})
        (tmp_path / "c.yaml").write_text(_service("c"))
        await recorder.until(lambda: recorder.names == {"b", "c"})


async def test_the_loop_turns_while_a_large_file_is_read(tmp_path: Path) -> None:
    """Ten thousand documents take longer to read than the loop ever waits: it must have turned meanwhile."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    (tmp_path / "a.yaml").write_text("---\n".join(_service(f"a{number}") for number in range(2000)))
    task = asyncio.create_task(count())
    async with _running(tmp_path) as recorder:
        assert len(recorder.names) == 2000
    task.cancel()
    assert turns > 20
