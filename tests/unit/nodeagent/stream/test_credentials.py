"""nodeagent.stream.credentials: what an agent shows, to whom, and what it says where it cannot."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from deltaplane import tls
from deltaplane.certificates import Unusable
from nodeagent.config.security import Security
from nodeagent.stream.credentials import Plain, Secure, dialler

SERVER, SOCKET = "192.0.2.1:50051", "unix:///run/deltaplane"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "token"


def shown(file: Path, server: str = SERVER) -> tuple[tuple[str, str], ...]:
    return Secure(Security(insecure=False, token_file=str(file))).metadata(server)


def test_the_token_is_read_anew_for_each_stream(file: Path) -> None:
    secure = Secure(Security(insecure=False, token_file=str(file)))
    for token in ("a.b-_.c~+/==", "rotated"):
        file.write_text(f"{token}\n")
        assert secure.metadata(SERVER) == (("authorization", f"Bearer {token}"),)


def test_a_token_is_never_shown_in_plain_text(file: Path) -> None:
    file.write_text("secret")

    assert shown(file, SOCKET) == ()
    assert isinstance(dialler(Security(insecure=True, token_file=str(file)), [SERVER]), Plain)
    assert Plain().metadata(SERVER) == ()


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a b", b"a\nb", b"a\r\nx-other: 1", b"\xc3\xa9", b"\xff", b"a" * 20_000, b"\0"]
)
def test_what_is_no_token_is_told_and_not_sent(file: Path, content: bytes) -> None:
    file.write_bytes(content)

    with pytest.raises(Unusable) as told:
        shown(file)
    assert str(told.value).startswith(f"--token-file={file}: ")


def test_a_token_that_cannot_be_read_is_told_and_nobody_waits_for_it(file: Path) -> None:
    with pytest.raises(Unusable, match="No such file"):
        shown(file)
    os.mkfifo(file)
    with pytest.raises(Unusable, match="not a regular file"):
        shown(file)


def test_a_replica_is_not_dialled_while_nothing_tells_whom_to_believe(tmp_path: Path) -> None:
    files = tls.Files(authorities=str(tmp_path / "none"), authorities_flag="server-ca-file")
    with pytest.raises(Unusable, match=f"--server-ca-file={tmp_path}/none: No such file"):
        Secure(Security(insecure=False, files=files)).channel(SERVER, ())


def test_what_would_be_shown_is_told_by_flag_and_nothing_while_a_file_cannot_be_used(file: Path) -> None:
    secure = Secure(Security(insecure=False, token_file=str(file)))
    assert secure.shown() == {}
    for token in ("one", "two"):
        file.write_text(token)
        shown = secure.shown()
        assert {flag for flag, content in shown.items() if content} == {"token-file"}
        assert shown["token-file"] == token
    file.write_text("no token")
    assert secure.shown() == {}
    assert Plain().shown() == {}
