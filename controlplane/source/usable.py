"""What translators share: keeping what is usable of a list, and saying what is not. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")
Problems = list[str]


class Invalid(ValueError):
    """The object cannot be used at all; the text is `field: reason`. `translate` names the object."""


def choose(field: str, texts: Iterable[str], parse: Callable[[str], T], problems: Problems) -> Iterator[T]:
    """The parsed ones, once each, in their order; what cannot be parsed becomes a problem."""
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
