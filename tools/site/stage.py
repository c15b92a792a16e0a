"""Puts what the site is made of into one folder: the pages under names without folders, files that they link to beside.

A link to another page leads to it there; one to a file of the repository to a copy; a folder becomes its name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.site.links import resolved
from tools.site.navigation import INDEX, Entry, entries, index

_FENCE = re.compile(r"(^```.*?^```)", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?P<mark>!?)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<target>[^()\s]+)\)")
_FOLDER_OF_FILES = "files"


def staged(top: Path, to: Path) -> None:
    """Fills the folder anew. Raises ValueError for a page that is not there."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir(parents=True)
    text = index(top)
    pages = list(entries(text))
    missing = [str(page.path) for page in pages if not (top / page.path).is_file()]
    if missing:
        raise ValueError(f"{INDEX} names what is not there: {', '.join(missing)}")
    names = {INDEX: "index.md"} | {page.path: name(page.path) for page in pages}
    for path, under in names.items():
        written = text + toctrees(pages) if path == INDEX else (top / path).read_text()
        (to / under).write_text(_Rewritten(top, to, path, names).text(written))


def name(path: Path) -> str:
    """What a page is called on the site: a README goes by its folder, the first one by what it is read for."""
    if path.name == "README.md":
        return f"{'protocol' if path.parent.name == 'proto' else path.parent.name or 'quick-start'}.md"
    return path.name.lower()


def toctrees(pages: Sequence[Entry]) -> str:
    """The navigation as Sphinx reads it, at the end of the index."""
    sections = dict.fromkeys(page.section for page in pages)
    text = ""
    for section in sections:
        lines = [f"{page.title} <{name(page.path)}>" for page in pages if page.section == section]
        text += "\n".join(["\n```{toctree}", ":hidden:", f":caption: {section}", "", *lines, "```\n"])
    return text


class _Rewritten:
    """The links of one page."""

    def __init__(self, top: Path, to: Path, path: Path, names: Mapping[Path, str]) -> None:
        self._top, self._to, self._path, self._names = top, to, path, names

    def text(self, text: str) -> str:
        """Fenced code stays as it is."""
        parts = _FENCE.split(text)
        return "".join(part if part.startswith("```") else _LINK.sub(self._link, part) for part in parts)

    def _link(self, found: re.Match[str]) -> str:
        target, hash_, anchor = found["target"].partition("#")
        path = resolved(self._path, target)
        if not target or path is None or re.match(r"[a-z]+:", target):
            return found[0]
        if path in self._names:
            return f"{found['mark']}[{found['text']}]({self._names[path]}{hash_}{anchor})"
        if (self._top / path).is_dir():
            return found["text"] if str(path) in found["text"] else f"{found['text']} (`{path}`)"
        copy = self._to / _FOLDER_OF_FILES / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._top / path, copy)
        return f"{found['mark']}[{found['text']}]({_FOLDER_OF_FILES}/{path})"
