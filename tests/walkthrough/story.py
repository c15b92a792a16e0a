"""What an operator types and must see, as data; and one story played through on a shell.

A command runs in `bash`, somewhere (`Place`); every text of `sees` must be found in its output, and none of `misses`.
What takes time to come true is asked again until `within` seconds are over. Raises nothing: what differs is in the
`Played` step.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum


class Place(Enum):
    """Where a command is typed; the value is the prompt."""

    OPERATOR = "$"
    NODE_1 = "node-1#"
    NODE_2 = "node-2#"
    OUTSIDE = "outside$"


@dataclass(frozen=True)
class Step:
    """`sees` and `misses` are regular expressions, searched line by line; `asks` says whether it may be typed again."""

    says: str
    types: str
    sees: Sequence[str] = ()
    misses: Sequence[str] = ()
    at: Place = Place.OPERATOR
    within: float = 30.0
    asks: bool = True  # it only looks: typed again until it shows what is wanted


@dataclass(frozen=True)
class Story:
    """`number` is that of the story: W1 to W19."""

    number: int
    wants: str
    steps: Sequence[Step]


@dataclass(frozen=True)
class Played:
    """A step with what was seen at the end; `lacks` is empty where that is what was wanted."""

    step: Step
    output: str
    lacks: Sequence[str] = field(default=())


Run = Callable[[Place, str], str]


def play(story: Story, run: Run) -> Iterator[Played]:
    """Each step as it was seen; ends after the first that differs."""
    for step in story.steps:
        played = _step(step, run)
        yield played
        if played.lacks:
            return


def _step(step: Step, run: Run) -> Played:
    deadline = time.monotonic() + step.within
    while True:
        output = run(step.at, step.types)
        lacks = lacking(step, output)
        if not lacks or not step.asks or time.monotonic() > deadline:
            return Played(step, output, lacks)
        time.sleep(0.5)


def lacking(step: Step, output: str) -> list[str]:
    """What is wanted and not there, and what is there and must not be."""
    missing = [f"lacks {text}" for text in step.sees if not re.search(text, output, re.MULTILINE)]
    return missing + [f"has {text}" for text in step.misses if re.search(text, output, re.MULTILINE)]
