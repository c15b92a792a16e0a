"""Which tests one process has for itself, by the path of their module; `tests/conftest.py` gives them out.

pytest-xdist's own groups go by a suffix that it adds to names, which pytest 9.2 no longer takes: nothing is grouped,
and nothing says so (pytest-xdist issue 1386). Its scheduler can be given another way to tell scopes apart.
"""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

HERE = Path(__file__).parent
FIRST = ("tests/kernel/test_modes_killed.py", "kernel", "e2e-own", "e2e", "packets")  # they begin in this order
_ALONE = ("tests/faults/", "tests/streams/", "tests/flows/test_flows_modes.py", "tests/flows/test_flows_kubeproxy.py")
"""Their tests take long and share nothing."""


class Scheduling(LoadScopeScheduling):  # type: ignore[misc] # pytest-xdist ships no types
    """Gives out whole groups, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


def group_of(nodeid: str) -> str:
    """Its process has one network (and API server) for all of a group; any other module is a group of its own."""
    path = nodeid.partition("::")[0]
    return nodeid if path.startswith(_ALONE) else _group(path)


@cache
def _group(path: str) -> str:
    folder = path.removeprefix("tests/").partition("/")[0]
    if folder == "e2e":
        return "e2e" if shares_the_product(HERE.parent / path) else "e2e-own"
    if path in FIRST:
        return path
    if folder in ("kernel", "vm"):
        return "kernel"
    return "packets" if "pytest.mark.kernel" in (HERE.parent / path).read_text() else path


def shares_the_product(module: Path) -> bool:
    """Whether its tests have the `line` of tests/e2e/conftest.py, not one of their own."""
    functions = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.FunctionDef)]
    asking = [each for each in functions if each.name.startswith("test_") or each.decorator_list]
    asked = {argument.arg for each in asking for argument in each.args.args}
    return bool(asked & {"line", "shop"}) and not {each.name for each in functions} & {"line", "shop"}


def longest_first(items: list[pytest.Item]) -> None:
    """What is given out last shall be short: then all processes end together."""
    groups = {item: group_of(item.nodeid) for item in items}
    size = Counter(groups.values())
    ranks = {group: rank for rank, group in enumerate(FIRST)}
    items.sort(key=lambda item: (ranks.get(groups[item], len(ranks)), groups[item] != item.nodeid, -size[groups[item]]))
