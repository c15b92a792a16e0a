"""Certificates for tests, made by openssl: an authority, and what it signs. Keys are of curve P-256, so it is quick."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


def openssl(*words: str | Path, stdin: bytes | None = None) -> bytes:
    """Its output. Raises CalledProcessError."""
    return subprocess.run(["openssl", *words], input=stdin, check=True, capture_output=True).stdout


class Authority:
    """A CA with its files in `folder`: NAME.pem and NAME.key."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        self._number = 0
        openssl(
            "req", "-x509", *_CURVE, "-keyout", self.key, "-out", self.certificate, "-days", "2", "-subj", f"/CN={name}"
        )

    def sign(self, name: str, *names: str, days: int = 1) -> Pair:
        """A pair for these alternative names ("DNS:a", "IP:10.0.0.1", "URI:a:b"). `days=-1`: it has ended."""
        made = Pair(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        request = self.folder / f"{name}.csr"
        openssl("req", *_CURVE, "-keyout", made.key, "-out", request, "-subj", f"/CN={name}")
        extensions = self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={','.join(names)}\n" if names else "")
        self._number += 1
        openssl(
            "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey", self.key,
            "-set_serial", str(self._number), "-extfile", extensions, "-out", made.certificate, "-days", str(days),
        )  # fmt: skip
        return made


class Pair:
    """A certificate and its key."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate, self.key = certificate, key

    def flags(self) -> Sequence[str]:
        return (f"--tls-cert-file={self.certificate}", f"--tls-private-key-file={self.key}")

    def replace(self, other: Pair) -> None:
        """The files are the other's from now on, one after the other."""
        for mine, new in ((self.certificate, other.certificate), (self.key, other.key)):
            mine.write_bytes(new.read_bytes())
