"""`python -m tests.needs ARGS`: which programs of tools/real-parts the tests need that pytest chooses by these words.

A test needs what its module and its fixtures name: every module that starts such a program imports `tools.lab.parts`
and says the name. Called by `tools/real-parts --tests` while some are not built. All of them, where pytest cannot tell.
"""

from __future__ import annotations

import ast
import contextlib
import io
import re
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).parents[1]
PARTS = frozenset(
    ("kubectl", "kube-proxy", "grpcurl", "jaeger", "kube-apiserver", "kube-controller-manager", "helm", "promtool")
)
_NAMED = re.compile(r'"([a-z-]+)"')


def main(arguments: list[str]) -> set[str]:
    """The parts. The arguments are pytest's own; nothing is run and nothing printed."""
    chosen = Chosen()
    with contextlib.redirect_stdout(io.StringIO()):
        code = pytest.main([*arguments, "--collect-only", "-q", "-n", "0", "-p", "no:cacheprovider"], plugins=[chosen])
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        return set(PARTS)
    return {name for item in chosen.items for name in needs(item)}


class Chosen:
    """A plugin that keeps what was collected."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = list(session.items)


def needs(item: pytest.Item) -> set[str]:
    """What its module and those which that imports name, and what the functions of its fixtures use."""
    found = set(_of_file(item.path, skip="conftest.py"))
    definitions = getattr(item, "_fixtureinfo").name2fixturedefs  # noqa: B009 - no public name for it
    for name in getattr(item, "fixturenames", ()):
        for definition in definitions.get(name, ()):
            found |= _of_function(definition.func)
    return found


@cache
def _of_function(function: Callable[..., object]) -> frozenset[str]:
    """What the modules name whose things a fixture uses."""
    inner = getattr(function, "__wrapped__", function)
    if not hasattr(inner, "__code__"):
        return frozenset()
    used = [inner.__globals__[name] for name in inner.__code__.co_names if name in inner.__globals__]
    modules = {thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", "") for thing in used}
    files = [_file(name) for name in modules if name]
    return frozenset(name for path in files if path for name in _of_file(path, skip="conftest.py"))


@cache
def _of_file(path: Path, skip: str) -> frozenset[str]:
    """Names in it and in what it imports; `skip`: a file whose fixtures are looked at one by one."""
    found: set[str] = set()
    waiting, seen = [path], {path}
    while waiting:
        text = waiting.pop().read_text()
        imported = set(_imports(text))
        if "tools.lab.parts" in imported:
            found |= set(_NAMED.findall(text)) & PARTS
        more = {file for name in imported if (file := _file(name)) and file.name != skip} - seen
        seen |= more
        waiting += more
    return frozenset(found)


def _imports(text: str) -> Iterator[str]:
    """Modules by name; of `from a import b` both a and a.b, whichever is one."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def _file(module: str) -> Path | None:
    """The file of a module of the laboratory or the tests."""
    path = REPOSITORY.joinpath(*module.split(".")).with_suffix(".py")
    return path if module.startswith(("tools.", "tests.", "bench.")) and path.is_file() else None


if __name__ == "__main__":
    sys.stdout.write(" ".join(sorted(main(sys.argv[1:]))) + "\n")
