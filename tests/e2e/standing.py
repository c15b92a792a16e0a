"""The product that stands over modules: those that take the `line` of tests/e2e/conftest.py share one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tools.lab.deltaplane import Deployment


def shares(item: pytest.Item | None) -> bool:
    """Whether the test has that `line`, not one of its module's own."""
    return "line" in getattr(item, "fixturenames", ()) and not hasattr(getattr(item, "module", None), "line")


def modules(items: Iterable[pytest.Item]) -> set[Path]:
    """The files with such tests."""
    return {item.path for item in items if shares(item)}


class Standing:
    """Started by the first module, ended by the last in a row. `goes_on`: the next test has it, too."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._line: Deployment | None = None
        self.goes_on = False

    def line(self, start: Callable[[], AbstractContextManager[Deployment]]) -> Deployment:
        """Whole again for each module: a test that failed may have left a part of it ended."""
        if self._line is None:
            self._line = self._stack.enter_context(start())
        self._line.restore()
        return self._line

    def leave(self) -> None:
        """At the end of a module: ends it where the next test has it not."""
        if not self.goes_on:
            self._line = None
            self._stack.close()
