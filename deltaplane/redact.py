"""Takes credentials out of what is said to people: logs, errors, and answers that carry an error's text. Pure."""

from __future__ import annotations

import re

_WORD = re.compile(r"\S+")
_NAMED = re.compile(r"""\b(alias|anchor|handle|tag) ['"].*""", re.DOTALL)


def urls(text: str) -> str:
    """The text with `***` for user and password of each URL, also of one that is malformed, in linear time.

    What is before the last `@` of a word with `://` counts as user and password.
    """
    return _WORD.sub(_url, text) if "://" in text and "@" in text else text


def _url(word: re.Match[str]) -> str:
    scheme, _, rest = word[0].partition("://")
    at = rest.rfind("@")
    return word[0] if at < 0 else f"{scheme}://***{rest[at:]}"


def yaml(problem: str) -> str:
    """PyYAML's description of a problem without the file's words: what begins with `*` or `!` may be a password."""
    return _NAMED.sub(r"\1", problem)
