"""Certificates, keys and CA bundles as PEM text: whether they can be used, and until when.

Called by `tls` with what files say, before gRPC gets it, whose own complaint names neither file nor reason. Pure, but
for a file in memory, since OpenSSL compares a key with a certificate only where both are in files.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import NamedTuple

_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----.*?-----END \1-----", re.DOTALL)
_UTC_TIME, _VERSION = 0x17, 0xA0  # tags


class Unusable(ValueError):
    """Why it cannot be used, for whoever wrote the file."""


class Period(NamedTuple):
    """When a certificate is valid, in Unix seconds: from `begins` (notBefore) to `ends` (notAfter)."""

    begins: float
    ends: float


def authorities(text: str) -> list[Period]:
    """When each certificate of a bundle is valid. Raises `Unusable` where it has none, or one that is not whole."""
    found = _certificates(text)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata="\n".join(found))
    except ssl.SSLError as error:
        raise Unusable(f"a certificate in it cannot be read: {error.reason or error}") from error
    return [period(ssl.PEM_cert_to_DER_cert(each)) for each in found]


def pair(chain: str, key: str) -> Period:
    """When the first certificate of the chain is valid. Raises `Unusable`: it and the key are no pair."""
    found = _certificates(chain)
    if not any(kind.endswith("PRIVATE KEY") for kind in _kinds(key, "private key")):
        raise Unusable("there is no private key in the key's file")
    try:
        with _in_memory(f"{key}\n{chain}") as path:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path, password=_no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise Unusable("the private key is not that of the certificate") from error
        raise Unusable(f"certificate and key cannot be read: {error.reason or error}") from error
    return period(ssl.PEM_cert_to_DER_cert(found[0]))


def _no_password() -> str:
    raise Unusable("the private key is encrypted, and there is nobody to ask for its password")


def _certificates(text: str) -> list[str]:
    if "CERTIFICATE" not in _kinds(text, "certificate"):
        raise Unusable("there is no certificate in it")
    return [match[0] for match in _BLOCK.finditer(text) if match[1] == "CERTIFICATE"]


def _kinds(text: str, what: str) -> list[str]:
    """Of the PEM blocks. Raises `Unusable` where one has no end: the file is being written, or was cut off."""
    kinds = [match[1] for match in _BLOCK.finditer(text)]
    if len(kinds) != text.count("-----BEGIN "):
        raise Unusable(f"a {what} in it is not whole: it is half written, or cut off")
    return kinds


@contextmanager
def _in_memory(text: str) -> Iterator[str]:
    """A path to the text, which is on no disk."""
    descriptor = os.memfd_create("pair", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)


def period(der: bytes) -> Period:
    """When a certificate is valid (RFC 5280 section 4.1). Raises `Unusable`: it is none."""
    try:
        ((_, certificate),) = _values(der)
        fields = list(_values(next(_values(certificate))[1]))
        validity = fields[4 if fields[0][0] == _VERSION else 3]
        (begin, begins), (end, ends) = _values(validity[1])
        return Period(_time(begin, begins.decode("ascii")), _time(end, ends.decode("ascii")))
    except (ValueError, IndexError, StopIteration) as error:
        raise Unusable("a certificate's validity cannot be read") from error


def _time(kind: int, text: str) -> float:
    if kind == _UTC_TIME:  # two digits, of the years from 1950 on
        text = ("19" if text >= "5" else "20") + text
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The DER values that stand one after another: tag and content."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            octets = length & 0x7F
            length, at = int.from_bytes(data[at : at + octets]), at + octets
        if at + length > len(data):
            raise ValueError("a value ends after its data")
        yield tag, data[at : at + length]
        at += length
