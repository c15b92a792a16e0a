"""Images without a registry: one Debian root as their base, and archives (docker-archive) that containerd imports.

Called by `node` (names) and `cluster` (files). They are made once, into the folder beside the real parts, and their
folder's name carries a digest of what they are made of. One layer is the base of all, so that a node stores it once.
Source: the image specification v1.2 of Docker (manifest.json, configuration, layers).
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.lab import parts

BASE = "deltaplane.dev/cluster/debian:1"
PAUSE = "deltaplane.dev/cluster/pause:1"
AGNHOST = "registry.k8s.io/e2e-test-images/agnhost:2.63.0"  # test/utils/image/manifest.go of Kubernetes 1.36
CREATED = "2026-01-01T00:00:00Z"  # the same content has the same digest
MAKE_ROOT = Path(__file__).parents[2] / "debian-root"
# What the image of agnhost has upstream (test/images/agnhost/Dockerfile), and the Python that Deltaplane's is built on.
PACKAGES = (
    "bash", "bind9-dnsutils", "ca-certificates", "curl", "iproute2", "iputils-ping", "netcat-openbsd", "procps",
    "python-is-python3", "python3", "python3-venv", "util-linux", "wget",
)  # fmt: skip


@dataclass(frozen=True)
class Image:
    """A name, layers from the lowest up (uncompressed tar files), and what it runs."""

    name: str
    layers: Sequence[Path]
    command: Sequence[str] = ()
    entrypoint: Sequence[str] = ()

    def configuration(self) -> bytes:
        """As JSON; its digest is the image's identity."""
        run: dict[str, Any] = {"Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
        run |= {"Cmd": list(self.command)} if self.command else {}
        run |= {"Entrypoint": list(self.entrypoint)} if self.entrypoint else {}
        layers = [f"sha256:{_digest(path)}" for path in self.layers]
        machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
        rootfs = {"type": "layers", "diff_ids": layers}
        history = [{"created": CREATED, "created_by": path.name} for path in self.layers]  # buildah counts them
        about = {"created": CREATED, "architecture": machine, "os": "linux"}
        return json.dumps(about | {"config": run, "rootfs": rootfs, "history": history}).encode()


def folder() -> Path:
    """Where they are; the name changes with what they are made of."""
    return parts.folder().parent / f"images-{_short(parts.folder().name, root().name, Path(__file__).read_text())}"


def root() -> Path:
    """The layer that is the base of all."""
    return parts.folder().parent / f"root-{_short(*PACKAGES, MAKE_ROOT.read_text())}.tar"


def _short(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:12]


def made() -> Path:
    """The archive of the base, of pause and of agnhost; made first where it is not there (minutes: a Debian)."""
    archive = folder() / "cluster.tar"
    with locked(folder()):
        if not archive.exists():
            _make(archive)
    return archive


@contextmanager
def locked(place: Path) -> Iterator[None]:
    """The folder, which one process at a time makes something in."""
    place.mkdir(parents=True, exist_ok=True)
    with (place / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(archive: Path) -> None:
    if not root().exists():
        _make_root()
    agnhost, beside = (archive.with_name(name) for name in ("agnhost.tar", ".cluster.tar"))
    with tarfile.open(agnhost, "w") as layer:
        layer.add(parts.find("agnhost"), "agnhost")
    images = [
        Image(BASE, [root()], ["bash"]),
        Image(PAUSE, [root()], ["sleep", "infinity"]),  # containerd ends a sandbox by SIGKILL
        Image(AGNHOST, [root(), agnhost], ["pause"], ["/agnhost"]),
    ]
    write(beside, images)
    agnhost.unlink()
    beside.replace(archive)


def _make_root() -> None:
    parts.installed("mmdebstrap")
    beside = root().with_name(f"half-{root().name}")
    subprocess.run([MAKE_ROOT, ",".join(PACKAGES), beside], check=True)
    beside.replace(root())


def write(archive: Path, images: Sequence[Image]) -> None:
    """One docker-archive of these; a layer that several have is in it once."""
    manifest = []
    with tarfile.open(archive, "w") as tar:
        for path in {path: None for image in images for path in image.layers}:
            tar.add(path, f"{_digest(path)}.tar")
        for image in images:
            configuration = image.configuration()
            name = f"{hashlib.sha256(configuration).hexdigest()}.json"
            _add(tar, name, configuration)
            layers = [f"{_digest(path)}.tar" for path in image.layers]
            manifest.append({"Config": name, "RepoTags": [image.name], "Layers": layers})
        _add(tar, "manifest.json", json.dumps(manifest).encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
