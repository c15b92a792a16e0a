"""What each part of the image costs above its base: `python -m deploy.image.parts BASE IMAGE`, two folders of files.

A file counts when the base does not have it, or another one. It belongs to the Debian package or the Python
distribution that lists it, bytecode to what its source belongs to. Sizes are of contents: a registry has them
compressed, and a disk in whole blocks. Called by tools/image.
"""

from __future__ import annotations

import csv
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

BYTECODE = "bytecode of the standard library"
REST = "the rest"
SMALL = 1_000_000  # bytes; smaller parts are one line


def parts(base: Path, image: Path) -> Counter[str]:
    """Bytes by part."""
    owners = {**dict(_debian(image)), **dict(_python(image))}
    found: Counter[str] = Counter()
    for path in files(image):
        size = (image / path).lstat().st_size
        if not _same(base / path, size):
            found[_part(path, owners, base)] += size
    return found


def total(root: Path) -> int:
    """Bytes of all its files."""
    return sum((root / path).lstat().st_size for path in files(root))


def files(root: Path) -> Iterator[PurePosixPath]:
    """All regular files, relative to the root."""
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield PurePosixPath(path.relative_to(root))


def table(base: Path, image: Path) -> str:
    """In Markdown, the largest first."""
    found = parts(base, image)
    large = {name: size for name, size in found.items() if size >= SMALL and name != REST}
    rows = [*sorted(large.items(), key=lambda pair: -pair[1]), ("smaller parts", found.total() - sum(large.values()))]
    rows += [("**above the base**", found.total()), ("the base's own", total(base))]
    return "\n".join(["| part | MB |", "|---|---:|", *(f"| {name} | {size / 1e6:.1f} |" for name, size in rows)])


def _same(path: Path, size: int) -> bool:
    """By size: what a build writes anew in place is lists and caches of Debian's, which are few."""
    return not path.is_symlink() and path.is_file() and path.lstat().st_size == size


def _part(path: PurePosixPath, owners: dict[str, str], base: Path) -> str:
    source = _source(path)
    if source != path and (base / source).exists():
        return BYTECODE
    return owners.get(str(source), REST)


def _source(path: PurePosixPath) -> PurePosixPath:
    """Of bytecode; any other file itself."""
    if path.parent.name != "__pycache__":
        return path
    return path.parents[1] / f"{path.name.partition('.')[0]}.py"


def _debian(root: Path) -> Iterator[tuple[str, str]]:
    """Packages list paths as they were before /bin, /sbin and /lib became links."""
    for listed in (root / "var/lib/dpkg/info").glob("*.list"):
        package = listed.stem.partition(":")[0]
        for line in listed.read_text().splitlines():
            path = line.lstrip("/")
            yield (f"usr/{path}" if path.startswith(("bin/", "sbin/", "lib")) else path), package


def _python(root: Path) -> Iterator[tuple[str, str]]:
    for record in root.glob("opt/*/lib/python3*/site-packages/*.dist-info/RECORD"):
        name = record.parent.name.partition("-")[0].replace("_", "-")
        for place, *_ in csv.reader(record.read_text().splitlines()):
            yield os.path.normpath(record.parents[1].relative_to(root) / place), name


if __name__ == "__main__":
    print(table(*map(Path, sys.argv[1:3])))
