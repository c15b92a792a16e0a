"""deltaplane.certificates and deltaplane.tls: what files can be used, and what happens when they change."""

from __future__ import annotations

import logging
import os
import time
from math import inf
from pathlib import Path

import pytest

from deltaplane import certificates, tls
from deltaplane.certificates import Unusable
from deltaplane.tls_figures import Certificates
from tests.certificates import Authority, Pair, openssl

DAY = 86400


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def signed(authority: Authority) -> Pair:
    return authority.sign("signed", "DNS:plane.example")


@pytest.fixture
def pair(signed: Pair, tmp_path: Path) -> Pair:
    mine = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    mine.replace(signed)
    return mine


def kept(pair: Pair, authorities: Path | str = "") -> tls.Kept:
    return tls.Kept(tls.Files(str(pair.certificate), str(pair.key), str(authorities)))


def test_a_pair_says_when_its_certificate_ends(pair: Pair) -> None:
    period = certificates.pair(pair.certificate.read_text(), pair.key.read_text())

    assert 0.9 * DAY < period.ends - time.time() <= DAY
    assert period.begins == period.ends - DAY


def test_a_certificate_that_ends_after_2049_is_read() -> None:
    def der(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    times = der(0x17, b"260101000000Z") + der(0x18, b"20500101000000Z")
    body = der(2, b"\1") + der(0x30, b"") + der(0x30, b"") + der(0x30, times)

    assert certificates.period(der(0x30, der(0x30, body))).ends == 2524608000


@pytest.mark.parametrize("size", range(0, 40, 7))
def test_what_is_no_certificate_is_called_that(signed: Pair, size: int) -> None:
    with pytest.raises(Unusable, match="validity cannot be read"):
        certificates.period(bytes(range(size)))


def test_a_key_of_another_certificate_is_told(authority: Authority, pair: Pair) -> None:
    pair.key.write_bytes(authority.key.read_bytes())

    with pytest.raises(Unusable, match="the private key is not that of the certificate") as told:
        kept(pair).get()
    assert f"--tls-cert-file={pair.certificate}" in str(told.value)


@pytest.mark.parametrize(("file", "what"), [("certificate", "a certificate"), ("key", "a private key")])
def test_a_file_that_is_half_written_is_told(pair: Pair, file: str, what: str) -> None:
    path: Path = getattr(pair, file)
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(Unusable, match=f"{what} in it is not whole"):
        kept(pair).get()


def test_an_encrypted_key_is_told_and_asks_nobody(pair: Pair) -> None:
    pair.key.write_bytes(openssl("pkcs8", "-topk8", "-in", pair.key, "-passout", "pass:secret"))

    with pytest.raises(Unusable, match="the private key is encrypted"):
        kept(pair).get()


def test_a_certificate_that_has_ended_is_told(authority: Authority) -> None:
    with pytest.raises(Unusable, match="the certificate ended at 20"):
        kept(authority.sign("ended", days=-1)).get()


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe", b"none", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_bundle_without_a_usable_certificate_is_told(pair: Pair, tmp_path: Path, content: bytes) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(content)

    with pytest.raises(Unusable, match=f"--client-ca-file={bundle}: "):
        kept(pair, bundle).get()


def test_a_bundle_may_have_the_old_and_the_new_authority(authority: Authority, tmp_path: Path) -> None:
    new = Authority(tmp_path, "new")

    assert len(certificates.authorities(authority.certificate.read_text() + new.certificate.read_text())) == 2


def test_a_file_that_is_not_there_is_told(pair: Pair) -> None:
    pair.key.unlink()

    with pytest.raises(Unusable, match=f"--tls-private-key-file={pair.key}: No such file"):
        kept(pair).get()


def test_a_pipe_is_not_waited_for(pair: Pair) -> None:
    pair.key.unlink()
    os.mkfifo(pair.key)

    with pytest.raises(Unusable, match="not a regular file"):
        kept(pair).get()


def test_files_that_change_count_from_the_next_look_on(authority: Authority, pair: Pair) -> None:
    looked_at = kept(pair)
    before = looked_at.get()
    assert looked_at.get() is before

    pair.replace(authority.sign("next"))

    assert looked_at.get().certificate == pair.certificate.read_bytes()
    assert looked_at.get().key == pair.key.read_bytes()
    assert looked_at.failures == 0


def test_the_last_good_pair_stays_while_a_new_one_is_half_there(
    authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    looked_at = kept(pair)
    before = looked_at.get()
    following = authority.sign("following")
    pair.certificate.write_bytes(following.certificate.read_bytes())

    with caplog.at_level(logging.INFO):
        assert [looked_at.get() for _ in range(3)] == [before] * 3
        told = [record.getMessage() for record in caplog.records]
        assert len(told) == 1
        assert "certificates stay as they were" in told[0]
        assert looked_at.failures == 1
        assert looked_at.complaint

        pair.key.write_bytes(following.key.read_bytes())
        assert looked_at.get().certificate == following.certificate.read_bytes()
    assert looked_at.complaint == ""


def test_where_there_is_no_certificate_none_ends(authority: Authority) -> None:
    looked_at = tls.Kept(tls.Files(authorities=str(authority.certificate), authorities_flag="server-ca-file"))

    assert looked_at.get().authorities == authority.certificate.read_bytes()
    assert looked_at.expires == inf


class Clock:
    """Unix seconds, as a test sets them."""

    def __init__(self) -> None:
        self.now = time.time()

    def kept(self, pair: Pair, authorities: Path | str = "") -> tls.Kept:
        return tls.Kept(tls.Files(str(pair.certificate), str(pair.key), str(authorities)), lambda: self.now)


def test_a_certificate_that_ends_while_it_is_used_is_told_once_though_no_file_changes(
    authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    looked_at = clock.kept(pair)
    before = looked_at.get()
    clock.now += 2 * DAY

    assert [looked_at.get() for _ in range(3)] == [before] * 3
    assert f"--tls-cert-file={pair.certificate}: the certificate ended at 20" in looked_at.complaint
    assert looked_at.failures == 1
    assert len(caplog.records) == 1
    clock.now -= 2 * DAY  # the clock was wrong
    looked_at.get()
    assert looked_at.complaint == ""


def test_a_certificate_that_begins_later_waits_and_the_last_good_one_stays(authority: Authority, pair: Pair) -> None:
    clock = Clock()
    looked_at = clock.kept(pair)
    before = looked_at.get()
    following = authority.sign("later")
    begins = certificates.pair(following.certificate.read_text(), following.key.read_text()).begins
    clock.now = begins - 60
    pair.replace(following)

    assert looked_at.get() == before
    assert f"--tls-cert-file={pair.certificate}: the certificate begins at 20" in looked_at.complaint
    clock.now = begins
    assert looked_at.get().certificate == following.certificate.read_bytes()
    assert (looked_at.complaint, looked_at.failures) == ("", 1)


def test_a_bundle_whose_every_authority_has_ended_is_told(authority: Authority, pair: Pair, tmp_path: Path) -> None:
    clock = Clock()
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.certificate.read_bytes())
    looked_at = tls.Kept(tls.Files(authorities=str(bundle), authorities_flag="server-ca-file"), lambda: clock.now)
    looked_at.get()
    clock.now += 3 * DAY
    looked_at.get()

    assert f"--server-ca-file={bundle}: all CAs in it have ended" in looked_at.complaint


def test_a_scrape_tells_of_a_certificate_that_has_ended(pair: Pair) -> None:
    clock = Clock()
    looked_at = clock.kept(pair)
    looked_at.get()
    clock.now += 2 * DAY
    figures = {sample.name: sample.value for metric in Certificates(looked_at).collect() for sample in metric.samples}

    assert figures["deltaplane_certificate_stale"] == 1
    assert figures["deltaplane_certificate_failures_total"] == 1
