"""What a program's TLS rests on: files that are read, checked, and read again while it runs.

Both programs make one `Kept` from their flags. Whoever rotates a certificate, a key or a CA bundle writes the file; it
counts from the next handshake on, and no connection that is open ends by it. What cannot be used is told once and
counted, and the last that was good stays. A bundle may have an old CA and its successor, so that both are believed.

TLS 1.3 is the least: `deltaplane.cli.SUITES` sees to it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from math import inf
from typing import Any, Protocol, TypeVar

import grpc
from msgspec import Struct

from deltaplane import bounded, certificates
from deltaplane.certificates import Period, Unusable
from deltaplane.logs import event
from deltaplane.stamps import Stamp, stamp

log = logging.getLogger(__name__)

MOST_BYTES = 1024 * 1024
T = TypeVar("T")


class Files(Struct, frozen=True):
    """Paths; empty: none. A certificate goes with its key. `authorities_flag`: for error texts."""

    certificate: str = ""
    key: str = ""
    authorities: str = ""
    authorities_flag: str = "client-ca-file"

    @property
    def named(self) -> list[str]:
        return [path for path in (self.certificate, self.key, self.authorities) if path]


class Material(Struct, frozen=True):
    """PEM; empty: none. In Unix seconds: when the certificate is valid, and when the last CA ends."""

    certificate: bytes = b""
    key: bytes = b""
    authorities: bytes = b""
    expires: float = inf
    begins: float = -inf
    believes_until: float = inf


class Source(Protocol):
    """Where a server's certificate comes from, at each handshake. May be asked by any thread."""

    def get(self) -> Material:
        """What counts now. Raises `Unusable` before there is anything."""

    @property
    def demands(self) -> bool:
        """Whether clients must show a certificate."""

    @property
    def complaint(self) -> str:
        """Why what counts now is not what should; empty: it is."""

    @property
    def failures(self) -> int:
        """How often something could not be used."""

    @property
    def expires(self) -> float:
        """When the certificate in use ends, in Unix seconds; infinite where there is none."""


class Kept:
    """What the files say now, or said when it could be used. May be asked by any thread."""

    def __init__(self, files: Files, now: Callable[[], float] = time.time) -> None:
        self.files = files
        self.complaint = ""  # why what the files say now is not used
        self.failures = 0  # contents of the files that could not be used
        self._now = now
        self._lock = threading.Lock()
        self._stamps: dict[str, Stamp] | None = None
        self._read_last: Material | None = None  # what the files say now, valid or not; None: it cannot be read
        self._good: Material | None = None

    @property
    def demands(self) -> bool:
        return bool(self.files.authorities)

    @property
    def expires(self) -> float:
        return inf if self._good is None else self._good.expires

    def get(self) -> Material:
        """Looks whether a file has changed. Raises `Unusable` (flag, file and reason) before a first good look."""
        with self._lock:
            stamps = {path: stamp(path) for path in self.files.named}
            if stamps != self._stamps:
                self._stamps = stamps  # as they were before they are read
                self._read()
            if self._read_last is not None:
                self._judge(self._read_last)
            if self._good is None:
                raise Unusable(self.complaint)
            return self._good

    def _read(self) -> None:
        self._read_last = None
        try:
            self._read_last = read(self.files)
        except Unusable as error:
            self._refuse(str(error))

    def _judge(self, read_last: Material) -> None:
        """At each look, since a certificate begins and ends, and the clock is set, while the files stay the same."""
        if reason := untimely(self.files, read_last, self._now()):
            self._refuse(reason)
            return
        self.complaint = ""
        if self._good is not None and read_last != self._good:
            event(log, logging.INFO, "certificates read again", files=",".join(self.files.named))
        self._good = read_last

    def _refuse(self, reason: str) -> None:
        if reason == self.complaint:
            return
        self.complaint = reason
        self.failures += 1
        if self._good is not None:
            event(log, logging.WARNING, "certificates stay as they were", reason=reason)


def read(files: Files) -> Material:
    """What the files say. Raises `Unusable`, which names flag, file and reason."""
    bundle, believes_until = _bundle(files) if files.authorities else ("", inf)
    certificate, key, period = _pair(files) if files.certificate else ("", "", Period(-inf, inf))
    return Material(certificate.encode(), key.encode(), bundle.encode(), period.ends, period.begins, believes_until)


def untimely(files: Files, material: Material, now: float) -> str:
    """Why it is not valid at this time (Unix seconds), with flag and file; empty: it is."""
    certificate, bundle = f"--tls-cert-file={files.certificate}", f"--{files.authorities_flag}={files.authorities}"
    if material.expires <= now:
        return f"{certificate}: the certificate ended at {_date(material.expires)}"
    if material.begins > now:
        return f"{certificate}: the certificate begins at {_date(material.begins)}, which is to come by this clock"
    if material.believes_until <= now:
        return f"{bundle}: all CAs in it have ended, the last one at {_date(material.believes_until)}"
    return ""


def _bundle(files: Files) -> tuple[str, float]:
    """The CAs, and when the last of them ends."""
    bundle = _text(files.authorities_flag, files.authorities)
    periods = _checked(f"--{files.authorities_flag}={files.authorities}", lambda: certificates.authorities(bundle))
    return bundle, max(period.ends for period in periods)


def _pair(files: Files) -> tuple[str, str, Period]:
    """Certificate and key, and when the certificate is valid."""
    certificate, key = _text("tls-cert-file", files.certificate), _text("tls-private-key-file", files.key)
    where = f"--tls-cert-file={files.certificate} --tls-private-key-file={files.key}"
    return certificate, key, _checked(where, lambda: certificates.pair(certificate, key))


def _date(moment: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))


def _text(flag: str, path: str) -> str:
    try:
        return bounded.read(path, MOST_BYTES)
    except UnicodeDecodeError:
        reason = "it is not PEM text"
    except OSError as error:
        reason = error.strerror or "it cannot be read"
    except bounded.TooMuch as error:
        reason = str(error)
    raise Unusable(f"--{flag}={path}: {reason}")


def _checked(where: str, check: Callable[[], T]) -> T:
    try:
        return check()
    except Unusable as error:
        raise Unusable(f"{where}: {error}") from error


def server_credentials(source: Source) -> grpc.ServerCredentials:
    """Of a server that asks the source at each handshake. With a CA bundle, clients must show a certificate.

    Raises `Unusable` where there is nothing that can be used now.
    """
    used = source.get()
    lock = threading.Lock()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        """None: as before. Called by gRPC's own threads, at once."""
        nonlocal used
        with lock:
            material = source.get()
            if material == used:
                return None
            used = material
        return _configuration(material)

    fetch: Any = renewed  # its type has no None, which gRPC takes for "as before"
    return grpc.dynamic_ssl_server_credentials(
        _configuration(used), fetch, require_client_authentication=source.demands
    )


def _configuration(material: Material) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(material.key, material.certificate)], root_certificates=material.authorities or None
    )


def channel_credentials(kept: Kept) -> grpc.ChannelCredentials:
    """Of one connection to a server: what the files say now. Raises `Unusable`."""
    material = kept.get()
    return grpc.ssl_channel_credentials(material.authorities, material.key or None, material.certificate or None)
