"""What the site consists of, read from docs/index.md: a section for each heading, a page for each link of its list.

A line inside an HTML comment `<!-- when there: * [Title](file.md): ... -->` counts from when the file is there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tools.site.links import resolved

INDEX = Path("docs/index.md")
_OPTIONAL = re.compile(r"^<!-- when there: (\* \[[^\]]*\]\(([^)]+)\).*?) -->$", re.MULTILINE)
_ITEM = re.compile(r"^\* \[(?P<title>[^\]]*)\]\((?P<target>[^)#]+)\)", re.MULTILINE)
_SECTION = re.compile(r"^## (.*)$", re.MULTILINE)


class Entry(NamedTuple):
    """A page by its path in the repository, under the name that the navigation gives it."""

    section: str
    title: str
    path: Path


def index(top: Path) -> str:
    """The text of docs/index.md with those optional lines whose file is there."""

    def line(found: re.Match[str]) -> str:
        path = resolved(INDEX, found[2])
        return found[1] if path and (top / path).exists() else ""

    return _OPTIONAL.sub(line, (top / INDEX).read_text())


def entries(text: str) -> Iterator[Entry]:
    """Every page of the navigation in its order. Raises ValueError for one outside of the repository."""
    _, *parts = _SECTION.split(re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL))
    for section, body in zip(parts[::2], parts[1::2], strict=True):
        for item in _ITEM.finditer(body):
            path = resolved(INDEX, item["target"])
            if path is None:
                raise ValueError(f"{INDEX}: {item['target']} is outside of the repository")
            yield Entry(section, item["title"], path)
