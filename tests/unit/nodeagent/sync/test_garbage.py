"""The garbage collector stands still while a whole state comes in, and does not visit it afterwards."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from nodeagent.sync.garbage import Garbage


@pytest.fixture(autouse=True)
def usual() -> Iterator[None]:
    gc.unfreeze()  # what programs that ran in this process before have set apart
    yield
    gc.enable()
    gc.unfreeze()


def test_it_collects_nothing_while_it_is_paused() -> None:
    garbage = Garbage()
    garbage.pause(while_=True)
    assert not gc.isenabled()
    garbage.pause(while_=False)
    assert gc.isenabled()


def test_what_a_whole_state_left_is_set_apart_once() -> None:
    garbage = Garbage()
    garbage.tidy()
    assert gc.get_freeze_count() == 0
    garbage.whole()
    garbage.tidy()
    assert gc.get_freeze_count() > 0
