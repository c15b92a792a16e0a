"""Both programs run with few collections, and one heap for all threads (test_malloc.py)."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from controlplane import main as controlplane
from deltaplane import heap
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
