"""Both programs run with few collections, and one heap for all threads (test_malloc.py)."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from controlplane import main as controlplane
from deltaplane import cli, heap
from nodeagent import main as nodeagent


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_the_collector_runs_seldom() -> None:
    heap.tune(whole=4)
    assert gc.get_threshold()[0] > 10_000


@pytest.mark.parametrize("program", [controlplane, nodeagent])
def test_both_programs_are_tuned(program: object, monkeypatch: pytest.MonkeyPatch) -> None:
    class Tuned(Exception):
        pass

    def tuned(*, whole: int) -> None:
        raise Tuned

    monkeypatch.setattr("deltaplane.logs.configure", lambda _: None)
    monkeypatch.setattr("deltaplane.heap.tune", tuned)
    arguments = {controlplane: ["--insecure"], nodeagent: ["--insecure", "--server=127.0.0.1:1"]}
    with pytest.raises(Tuned):
        program.main(arguments[program])  # type: ignore[attr-defined,index]


@pytest.fixture
def thawed() -> Iterator[None]:
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("thawed")
@pytest.mark.parametrize("program", cli.PROGRAMS)
def test_a_program_is_loaded_without_collections(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    collecting: list[bool] = []

    def main(_: list[str]) -> int:
        collecting.append(gc.isenabled())
        return 0

    def loaded(_: str) -> SimpleNamespace:
        collecting.append(gc.isenabled())
        return SimpleNamespace(main=main)

    monkeypatch.setattr("importlib.import_module", loaded)
    assert cli.main([program]) == 0
    assert collecting == [False, True]
    assert gc.get_freeze_count() > 0


@pytest.mark.usefixtures("thawed")
def test_a_program_that_cannot_be_loaded_leaves_the_collector_on() -> None:
    with pytest.raises(ImportError), heap.imports():
        raise ImportError
    assert gc.isenabled()
