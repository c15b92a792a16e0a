"""What a page of Markdown has: headings with the anchors that they get, and links. Pure; called by `links`, `stage`.

Anchors are those of GitHub, which MyST gives as well: lower case, without punctuation, spaces as hyphens, and a number
where a heading stands twice.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from markdown_it import MarkdownIt
from markdown_it.token import Token

_PARSER = MarkdownIt("commonmark").enable("table")
_OWN_ANCHOR = re.compile(r'<a (?:id|name)="([^"]+)"')


class Link(NamedTuple):
    """`line` is the first of the paragraph or table that has it; `target` is as written, with its anchor."""

    line: int
    target: str
    text: str


class Page(NamedTuple):
    """One document."""

    title: str
    anchors: frozenset[str]
    links: tuple[Link, ...]


def read(text: str) -> Page:
    """Reads a document; its title is the first heading, "" where it has none."""
    tokens = _PARSER.parse(text)
    headings = [tokens[at + 1] for at, token in enumerate(tokens) if token.type == "heading_open"]
    titles = [_plain(heading.children or ()) for heading in headings]
    own = _OWN_ANCHOR.findall(text)
    return Page(titles[0] if titles else "", frozenset([*_slugs(titles), *own]), tuple(_links(tokens)))


def _slugs(titles: Iterable[str]) -> Iterator[str]:
    seen: Counter[str] = Counter()
    for title in titles:
        slug = re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


def _plain(inline: Iterable[Token]) -> str:
    return "".join(_plain(token.children) if token.children else token.content for token in inline)


def _links(tokens: Iterable[Token]) -> Iterator[Link]:
    line = 0
    for token in tokens:
        line = token.map[0] + 1 if token.map else line
        children = token.children or []
        for at, child in enumerate(children):
            if child.type == "link_open":
                yield Link(line, str(child.attrs["href"]), _plain(_until_close(children[at + 1 :])))
            elif child.type == "image":
                yield Link(line, str(child.attrs["src"]), child.content)


def _until_close(tokens: Iterable[Token]) -> Iterator[Token]:
    for token in tokens:
        if token.type == "link_close":
            return
        yield token
