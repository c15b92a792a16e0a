"""A machine moves by its table alone."""

from __future__ import annotations

from enum import Enum

import pytest

from deltaplane.states import Machine


class Door(Enum):
    OPEN = "open"
    SHUT = "shut"


class Push(Enum):
    PUSH = "push"
    PULL = "pull"


TABLE = {Door.OPEN: {Push.PUSH: Door.SHUT}, Door.SHUT: {Push.PULL: Door.OPEN, Push.PUSH: Door.SHUT}}


def test_it_begins_in_the_first_state_and_goes_where_the_table_says() -> None:
    machine = Machine(TABLE)
    assert machine.state is Door.OPEN
    assert [machine.move(event) for event in (Push.PUSH, Push.PUSH, Push.PULL)] == [Door.SHUT, Door.SHUT, Door.OPEN]
    assert machine.state is Door.OPEN


def test_what_the_table_does_not_list_is_a_defect_and_moves_nothing() -> None:
    machine = Machine(TABLE)
    assert (machine.allows(Push.PUSH), machine.allows(Push.PULL)) == (True, False)
    with pytest.raises(LookupError, match=r"Push\.PULL in Door\.OPEN"):
        machine.move(Push.PULL)
    assert machine.state is Door.OPEN
