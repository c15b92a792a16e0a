"""Which tests hold which row of behaviour: those that name its id in a string, a comment or their own name.

`test_e8_...`, a docstring with "(K1, K4)", `# G2` and the id of a parameter all count; an id outside of any test counts
for the whole module. Called by `document`.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ID = re.compile(r"(?<![A-Za-z0-9])([A-L])(\d{1,2})(?:(?:-| to )\1(\d{1,2}))?(?![A-Za-z0-9])")
_IN_NAME = re.compile(r"(?<=_)([a-l]\d{1,2})(?=_|$)")
_HERE = Path(__file__).parent


@cache
def held_by_tests() -> dict[str, list[str]]:
    """Names below tests/ by row, sorted; a module's own name where no test of it is meant alone."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        name = str(path.relative_to(ROOT / "tests"))
        if path.parent != _HERE:
            for id_, test in _ids(path.read_text("utf-8")):
                found.setdefault(id_, set()).add(f"{name}::{test}" if test else name)
    return {id_: sorted(names) for id_, names in found.items()}


def _ids(text: str) -> Iterator[tuple[str, str]]:
    """Row ids with the test they stand in, or ""."""
    tests = list(_tests(text))
    for first, _, name in tests:
        yield from ((short.upper(), name) for short in _IN_NAME.findall(name) if first)
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            inside = [name for first, last, name in tests if first <= token.start[0] <= last]
            yield from ((id_, inside[0] if inside else "") for id_ in _said(token.string))


def _tests(text: str) -> Iterator[tuple[int, int, str]]:
    """First line (decorators included), last line and name of every test."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            yield first, node.end_lineno or first, node.name


def _said(text: str) -> Iterator[str]:
    for letter, first, last in _ID.findall(text):
        yield from (f"{letter}{number}" for number in range(int(first), int(last or first) + 1))
