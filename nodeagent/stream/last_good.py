"""The last good list of servers, on disk: which addresses the names of `--server` had when a replica last answered.

`servers` uses it where a name does not resolve, or no server answers. The file is replaced whole (temporary file,
fsync, rename) and checked when it is read: one that is damaged is told and not used. It never fails the agent.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from zlib import crc32

import msgspec

from deltaplane.logs import event
from nodeagent.stream import state_folder
from nodeagent.stream.journal_file import NAMES
from nodeagent.stream.state_folder import SERVERS, SERVERS_FRESH

log = logging.getLogger(__name__)

MAX_BYTES = 256 * 1024
Addresses = Mapping[str, frozenset[bytes]]  # by name, as `ip_address(...).packed`


class LastGood:
    """One file in the state folder. A list that is equal to the one on disk is not written again."""

    def __init__(self, directory: str | Path) -> None:
        self._directory = Path(directory)
        self._kept: Addresses | None = None
        self._broken = ""

    def read(self) -> Addresses:
        """What was kept; empty where nothing can be used."""
        try:
            with state_folder.folder(self._directory, NAMES) as folder:
                descriptor = state_folder.open_file(folder, SERVERS)
            with os.fdopen(descriptor, "rb") as file:
                self._kept = _parsed(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            event(log, logging.WARNING, "the list of servers is not used", file=self._path, error=str(error))
            return {}
        return self._kept

    def keep(self, addresses: Addresses) -> None:
        """Writes the list. A failure is told once, until it works again."""
        if addresses == self._kept:
            return
        try:
            self._write(_content(addresses))
        except OSError as error:
            if not self._broken:
                event(log, logging.WARNING, "cannot keep the list of servers", file=self._path, error=str(error))
            self._broken = str(error)
        else:
            self._kept, self._broken = dict(addresses), ""

    @property
    def _path(self) -> Path:
        return self._directory / SERVERS

    def _write(self, content: bytes) -> None:
        if len(content) > MAX_BYTES:
            raise OSError(errno.EFBIG, f"it has more than {MAX_BYTES} bytes")
        with state_folder.folder(self._directory, NAMES) as folder:
            os.close(state_folder.put(folder, SERVERS_FRESH, SERVERS, content))


def _content(addresses: Addresses) -> bytes:
    texts = {name: sorted(str(ip_address(packed)) for packed in found) for name, found in sorted(addresses.items())}
    body = msgspec.json.encode(texts)
    return b"%08x\n%b\n" % (crc32(body), body)


def _parsed(content: bytes) -> Addresses:
    """Raises ValueError with what is wrong."""
    checksum, _, body = content.rstrip(b"\n").partition(b"\n")
    if len(content) > MAX_BYTES or checksum != b"%08x" % crc32(body):
        raise ValueError("its checksum differs, or it is too long: it is damaged")
    texts = msgspec.json.decode(body, type=dict[str, list[str]])
    return {name: frozenset(ip_address(text).packed for text in found) for name, found in texts.items()}
