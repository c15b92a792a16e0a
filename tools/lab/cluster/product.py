"""Deltaplane's image as an archive that containerd imports, made by `tools/image`. Called by tests/cluster.

It is made anew when a file that the Dockerfile copies is another one.
"""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tools.lab.cluster import images

REPOSITORY = Path(__file__).parents[3]
DOCKERFILE = REPOSITORY / "deploy" / "image" / "Dockerfile"
BUILD = REPOSITORY / "tools" / "image"
NAME = "deltaplane.dev/cluster/deltaplane:test"  # as tests/cluster/overlays have it
_COPY = re.compile(r"^COPY (?!--from)(.+) \S+$", re.MULTILINE)


def copied() -> list[Path]:
    """Every file of the repository that the image is made of, by the Dockerfile's own lines."""
    tops = [REPOSITORY / name for names in _COPY.findall(DOCKERFILE.read_text()) for name in names.split()]
    return [DOCKERFILE, BUILD, *(path for top in tops for path in _below(top))]


def _below(top: Path) -> Iterator[Path]:
    found = sorted(top.rglob("*")) if top.is_dir() else [top]
    return (path for path in found if path.is_file() and "__pycache__" not in path.parts)


def _digest() -> str:
    digest = hashlib.sha256()
    for path in copied():
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]


def made(name: str = NAME) -> Path:
    """The archive of an image of this name; built where it is not there (a minute and a half)."""
    folder = images.folder() / "product"  # with a lock of its own: who needs the other images does not wait
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / f"deltaplane-{name.rpartition(':')[2]}-{_digest()}.tar"
    with images.locked(folder):
        if not archive.exists():
            _build(name, archive)
    return archive


def _build(name: str, archive: Path) -> None:
    beside = archive.with_name(f".{archive.name}")
    done = subprocess.run(["nice", BUILD, "--tag", name, "--to", beside], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"tools/image: {(done.stdout + done.stderr)[-2000:]}")
    for old in archive.parent.glob(f"deltaplane-{name.rpartition(':')[2]}-*.tar"):
        old.unlink()
    beside.replace(archive)
