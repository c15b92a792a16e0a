"""Addresses, CIDRs and HOST:PORT as a configuration may write them: like kube-proxy, with leading zeros ignored."""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from deltaplane.addresses import parse_address, parse_packed


def address(text: str) -> IPv4Address | IPv6Address:
    """An address; one mapped into IPv6 counts as IPv4. Raises ValueError."""
    return ip_address(parse_address(text))


def network(text: str) -> IPv4Network | IPv6Network:
    """The network of a CIDR, whatever host bits it has. Raises ValueError, also where there is no prefix length."""
    host, slash, length = text.partition("/")
    if not slash or not length.isdecimal() or not length.isascii():
        raise ValueError(f"{text!r} is not a CIDR")
    return ip_network((parse_packed(host), int(length)), strict=False)


def split_host_port(text: str) -> tuple[str, str]:
    """The two halves of HOST:PORT or [V6]:PORT, unjudged. Raises ValueError."""
    match = re.fullmatch(r"(?:\[([^][]*)\]|([^][:]*)):([^][:]*)", text)
    if match is None:
        raise ValueError(f"{text!r} is not HOST:PORT")
    return match[1] if match[1] is not None else match[2], match[3]


def with_port(text: str, port: int) -> str:
    """HOST:PORT from an address without a port; anything else is given back for validation to judge."""
    try:
        found = address(text)
    except ValueError:
        return text
    return f"[{text}]:{port}" if isinstance(found, IPv6Address) or ":" in text else f"{text}:{port}"
