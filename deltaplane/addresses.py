"""Addresses and CIDRs as Kubernetes reads them: text to packed bytes and to canonical text. Pure.

Used by both programs: for objects of the API, and for the agent's configuration. Kubernetes parses IPv4
numbers with leading zeros as decimal (net/parse.go of k8s.io/utils, KEP-2438's legacy rule), and takes an IPv4-mapped
IPv6 address for the IPv4 address.
"""

from __future__ import annotations

import ipaddress
import socket

_MAPPED = bytes(10) + b"\xff\xff"


def parse_address(text: str) -> bytes:
    """Packed network-order bytes, 4 or 16; 4 for an IPv4-mapped address. Raises ValueError with the reason."""
    packed = parse_packed(text)
    return packed[12:] if len(packed) == 16 and packed.startswith(_MAPPED) else packed


def parse_packed(text: str) -> bytes:
    """Packed network-order bytes of the family as written, 4 or 16. Raises ValueError with the reason."""
    try:
        return socket.inet_pton(socket.AF_INET6 if ":" in text else socket.AF_INET, text)
    except (OSError, ValueError):
        return _parse_lenient(text)


def _parse_lenient(text: str) -> bytes:
    head, colon, quad = text.rpartition(":")
    plain = head + colon + _strip_zeros(quad) if "." in quad else text
    try:
        if "%" not in text:
            return ipaddress.ip_address(plain).packed
    except ValueError:
        pass
    raise ValueError(f"{text!r} is not an IP address")


def _strip_zeros(quad: str) -> str:
    return ".".join(part.lstrip("0") or "0" if part.isdecimal() else part for part in quad.split("."))


def parse_cidr(text: str) -> str:
    """Canonical text of a CIDR: surrounding space and host bits removed. Raises ValueError with the reason."""
    address, _, length = text.strip().partition("/")
    try:
        bits = int(length) if length.isdecimal() else -1  # int also accepts "+8" and "1_0"
        network = ipaddress.ip_network((parse_address(address), bits), strict=False)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a CIDR (address/length)") from error
    return str(network)
