"""The last good list of servers on disk: whatever became of the file, the agent goes on, and says what is wrong."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path
from zlib import crc32

import pytest

from nodeagent.stream import state_folder
from nodeagent.stream.last_good import MAX_BYTES, LastGood

GOOD = {"replicas.example": frozenset({ip_address("192.0.2.1").packed, ip_address("2001:db8::1").packed})}
OTHER = {"replicas.example": frozenset({ip_address("192.0.2.9").packed})}


def signed(body: bytes) -> bytes:
    """As the agent writes it, whatever the body says."""
    return b"%08x\n%b\n" % (crc32(body), body)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    LastGood(tmp_path / "state").keep(GOOD)
    return tmp_path / "state"


def torn(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zeros(file: Path) -> None:
    file.write_bytes(bytes(len(file.read_bytes())))


def huge(file: Path) -> None:
    with file.open("wb") as written:
        written.truncate(10 * 1024**3)  # sparse: nothing of it may be read whole


def long_and_signed(file: Path) -> None:
    file.write_bytes(signed(b'{"replicas.example":["192.0.2.1"],"' + b"a" * MAX_BYTES + b'":[]}'))


def other_shape(file: Path) -> None:
    file.write_bytes(signed(b'[{"name":"replicas.example"}]'))


def deep(file: Path) -> None:
    file.write_bytes(signed(b'{"replicas.example":' + b"[" * 50_000 + b"]" * 50_000 + b"}"))


def no_address(file: Path) -> None:
    file.write_bytes(signed(b'{"replicas.example":["replicas.example"]}'))


def no_text(file: Path) -> None:
    file.write_bytes(signed(b'{"replicas.example":["\xff\xfe"]}'))


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def directory(file: Path) -> None:
    file.unlink()
    file.mkdir()


def link(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


KINDS = (torn, empty, zeros, huge, long_and_signed, other_shape, deep, no_address, no_text, fifo, directory, link)


@pytest.mark.parametrize("harm", KINDS, ids=lambda harm: harm.__name__)
def test_a_list_that_is_damaged_or_of_somebody_else_is_told_and_not_used(
    folder: Path, harm: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    assert LastGood(folder).read() == GOOD
    harm(folder / state_folder.SERVERS)
    assert LastGood(folder).read() == {}
    assert caplog.text.count("the list of servers is not used") == 1
    assert str(folder / state_folder.SERVERS) in caplog.text


def test_after_a_damaged_list_the_next_good_one_is_kept(folder: Path) -> None:
    torn(folder / state_folder.SERVERS)
    kept = LastGood(folder)
    kept.read()
    kept.keep(OTHER)
    assert LastGood(folder).read() == OTHER


def test_on_a_full_disk_the_list_of_before_stays_and_it_is_told_once(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[:7])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    kept = LastGood(folder)
    with monkeypatch.context() as patched:
        patched.setattr(state_folder, "write", full)
        for _ in range(3):
            kept.keep(OTHER)
    assert LastGood(folder).read() == GOOD
    assert caplog.text.count("cannot keep the list of servers") == 1
    kept.keep(OTHER)
    assert LastGood(folder).read() == OTHER


def test_a_list_too_long_to_be_read_again_is_not_written(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A name may have any number of addresses, which whoever answers for it decides."""
    many = {"replicas.example": frozenset(ip_address(number).packed for number in range(2**24, 2**24 + 30_000))}
    LastGood(folder).keep(many)
    assert "more than 262144 bytes" in caplog.text
    assert LastGood(folder).read() == GOOD
