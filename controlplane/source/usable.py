"""Shared by the translators: keeps the usable items of a list, and reports the others. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Problems = list[str]


class Invalid(ValueError):
    """The whole object is unusable; the text is `field: reason`. `translate` adds the object's name."""


def choose(field: str, texts: Iterable[str], parse: Callable[[str], T], problems: Problems) -> Iterator[T]:
    """The parsed items in their order, without duplicates. Each item that cannot be parsed becomes a problem."""
    seen: set[T] = set()
    for index, text in enumerate(texts):
        try:
            value = parse(text)
        except ValueError as error:
            problems.append(f"{field}[{index}]: {error}; skipped")
            continue
        if value not in seen:
            seen.add(value)
            yield value
