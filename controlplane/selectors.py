"""Label selectors and values as text: what the API server's parser takes (apimachinery, labels.Parse). Pure."""

from __future__ import annotations

import re

_NAME = r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_KEY = rf"(?:[a-z0-9](?:[-a-z0-9.]{{0,251}}[a-z0-9])?/)?{_NAME}"
_VALUE = rf"(?:{_NAME})?"
_TERM = re.compile(
    rf"\s*(?:!\s*{_KEY}|{_KEY}(?:\s*(?:==|=|!=)\s*{_VALUE}|\s+(?:in|notin)\s*\(\s*{_VALUE}(?:\s*,\s*{_VALUE})*\s*\))?)\s*"
)


def is_value(text: str) -> bool:
    """Whether it is a label's value, and not the empty one."""
    return re.fullmatch(_NAME, text) is not None


def labels(text: str) -> dict[str, str]:
    """KEY=VALUE,... as a nodeSelector; empty: {}. Raises ValueError."""
    found: dict[str, str] = {}
    for term in text.split(",") if text.strip() else ():
        key, equals, value = term.strip().partition("=")
        if not (equals and re.fullmatch(_KEY, key) and re.fullmatch(_VALUE, value)):
            raise ValueError(f"{term.strip()!r} is not KEY=VALUE, a label as a nodeSelector has it")
        if found.setdefault(key, value) != value:
            raise ValueError(f"{key} has two values: {found[key]!r} and {value!r}")
    return found


def problem(text: str) -> str:
    """Why this is no label selector; "" where it is one."""
    at = 0
    while found := _TERM.match(text, at):
        at = found.end()
        if at == len(text):
            return ""
        if text[at] != ",":
            break
        at += 1
    rest = text[at:].strip() or "nothing"
    return (
        f"{text!r} is no label selector at {rest!r}; terms are KEY, !KEY, KEY=VALUE, KEY in (A,B), with commas between"
    )
