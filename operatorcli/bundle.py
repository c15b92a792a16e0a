"""A support bundle: answers of Dump as files in a tar.gz, which only its owner may read. It has no secrets.

Called by the verb `dump`. What replicas send are Services, EndpointSlices, Nodes and what agents say of themselves; of
the command itself, its version and whom it asked are written down, and nothing that proves who asked.
"""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from contextlib import ExitStack
from typing import IO, Any

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.output import plain

PARTS = {"status": "replicas", "node": "nodes", "object": "objects", "change": "changes"}  # part: file


class Bundle:
    """Writes each part to a file of its kind (JSON, a line each); `finish` makes the archive of them."""

    def __init__(self) -> None:
        self.parts = 0
        self.end: pb.DumpEnd | None = None
        self._opened = ExitStack()
        self._files: dict[str, IO[bytes]] = {}
        for name in PARTS.values():
            self._files[name] = self._opened.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - entered

    @property
    def whole(self) -> bool:
        """Whether all that the replica sent is here."""
        return self.end is not None and self.end.parts == self.parts

    def take(self, response: pb.DumpResponse) -> None:
        """One part."""
        kind = response.WhichOneof("part")
        if kind == "end":
            self.end = response.end
        elif kind is not None:
            self.parts += 1
            line = json.dumps(plain(getattr(response, kind)), ensure_ascii=False)
            self._files[PARTS[kind]].write(line.encode() + b"\n")

    def finish(self, out: IO[bytes], folder: str, about: dict[str, Any]) -> None:
        """`about`: who asked whom and when."""
        ended = plain(self.end) if self.end is not None else {}
        about = about | {"whole": self.whole, "parts": self.parts, "end": ended}
        with tarfile.open(fileobj=out, mode="w:gz") as archive:
            text = json.dumps(about, indent=2).encode() + b"\n"
            _add(archive, f"{folder}/about.json", io.BytesIO(text), len(text))
            for name, file in self._files.items():
                size = file.tell()
                file.seek(0)
                _add(archive, f"{folder}/{name}.jsonl", file, size)

    def close(self) -> None:
        """Frees the space."""
        self._opened.close()


def _add(archive: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    archive.addfile(entry, content)
