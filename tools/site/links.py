"""Whether every link between the repository's documents leads somewhere: files, folders and headings. Takes a second.

`python -m tools.site.links` says what does not, a line each, with exit code 1. Addresses of the web are not asked.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from tools.site.markdown import Link, Page, read

REPOSITORY = Path(__file__).parents[2]
_SKIPPED = {".venv", "build", "node_modules", "results"}
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


def documents(top: Path) -> dict[Path, Page]:
    """Every Markdown file below a folder, by its path there."""
    found = (path for path in sorted(top.rglob("*.md")) if not _hidden(path.relative_to(top)))
    return {path.relative_to(top): read(path.read_text()) for path in found}


def _hidden(path: Path) -> bool:
    return any(part in _SKIPPED or part.startswith(".") for part in path.parts)


def problems(top: Path, pages: Mapping[Path, Page]) -> Iterator[str]:
    """A line for each link that leads nowhere: FILE:LINE: target: why."""
    for path, page in pages.items():
        for link in page.links:
            reason = _wrong(top, pages, path, link)
            if reason:
                yield f"{path}:{link.line}: {link.target}: {reason}"


def _wrong(top: Path, pages: Mapping[Path, Page], path: Path, link: Link) -> str:
    """Why a link leads nowhere, "" where it leads somewhere."""
    if _ELSEWHERE.match(link.target):
        return ""
    target, _, anchor = link.target.partition("#")
    found = resolved(path, target)
    if found is None:
        return "outside of the repository"
    if not (top / found).exists():
        return f"there is no {found}"
    if anchor and found in pages and anchor not in pages[found].anchors:
        return f"{found} has no heading with the anchor {anchor!r}"
    return ""


def resolved(path: Path, target: str) -> Path | None:
    """The path in the repository that a document's relative link means; None where it leads out of it."""
    if not target:
        return path
    parts: list[str] = []
    for part in (*path.parent.parts, *Path(unquote(target)).parts):
        if part == ".." and not parts:
            return None
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return Path(*parts)


def main() -> int:
    pages = documents(REPOSITORY)
    found = list(problems(REPOSITORY, pages))
    sys.stderr.write("".join(f"{line}\n" for line in found))
    links = sum(len(page.links) for page in pages.values())
    sys.stdout.write(f"{links} links in {len(pages)} documents, {len(found)} lead nowhere\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
