"""The IPv6 twin of an IPv4 scenario: every address in it, replaced by rule.

Called by `corpus`. Works on the parsed document, so it knows nothing of what the strings mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from typing import Any

_ADDRESS = r"(?<![\d.])(\d{1,3}(?:\.\d{1,3}){3})(?![\d.])"
_SPOTS = re.compile(rf"{_ADDRESS}(?:/(\d+)(?!\d))?(?::(\d+))?")
# By network: the address as the four octets a, b, c and d, and how long a prefix of 8, 16 and 24 bits becomes.
_PLAN: tuple[tuple[str, str, Mapping[int, int]], ...] = (
    ("10.0.0.0/8", "fd10:{b:x}:{c:x}::{d:x}", {8: 16, 16: 32, 24: 48}),
    ("127.0.0.0/8", "::{d:x}", {8: 128}),
    ("172.30.0.0/16", "fd00:10:96::{c:x}{d:02x}", {16: 112, 24: 120}),
    ("192.168.0.0/16", "2001:db8:{c:x}::{d:x}", {24: 48}),
    ("203.0.113.0/24", "2001:db8:f::{d:x}", {24: 64, 25: 121}),
    ("0.0.0.0/0", "2001:db8:e:{a:x}:{b:x}:{c:x}:{d:x}:1", {0: 0, 24: 96}),
)
_WORDS = {"IPv4": "IPv6"}


def twin(value: Any) -> Any:
    """The value with every IPv4 address, prefix and family in its strings turned to IPv6."""
    if isinstance(value, str):
        return _WORDS.get(value) or _SPOTS.sub(_replace, value)
    if isinstance(value, Mapping):
        return {key: twin(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [twin(item) for item in value]
    return value


def _replace(found: re.Match[str]) -> str:
    address, length, port = found.groups()
    made, lengths = _address(address)
    if length is not None:
        size = lengths[int(length)] if int(length) < 32 else 128
        made = str(ip_network(f"{made}/{size}", strict=False))
    return f"[{made}]:{port}" if port else made


def _address(text: str) -> tuple[str, Mapping[int, int]]:
    octets = dict(zip("abcd", map(int, text.split(".")), strict=True))
    for network, form, lengths in _PLAN:
        if ip_address(".".join(map(str, octets.values()))) in ip_network(network):
            return str(ip_address(form.format(**octets))), lengths
    raise AssertionError("0.0.0.0/0 holds every address")
