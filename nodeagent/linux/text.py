"""The one place where text for another program is let through: iptables-restore reads a line as options.

Nothing is quoted by hope: what is outside the alphabet is refused, and so is that object alone. Called by every mode,
for comments, interfaces, networks, names in netlink messages, and rules of others (`iptables.saved`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network

_ALPHABET = re.compile(r"[A-Za-z0-9 ./:;,>\[\]()_+-]*")
_INTERFACE = re.compile(r"[A-Za-z0-9_.@:-]{1,15}[+*]?")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_IFNAMSIZ = 16
LONGEST = 255  # bytes of a comment: XT_MAX_COMMENT_LEN less its end; iptables cuts longer ones without a word


class UnsafeText(ValueError):
    """A text that another program could read as more than a word. Backends make it INVALID_OBJECT of its object."""


def word(text: str) -> str:
    """The text, if it can stand between quotes. Raises `UnsafeText`."""
    if _ALPHABET.fullmatch(text) is None:
        raise UnsafeText(f"{text[:80]!a} has characters that a rule cannot have")
    if len(text) > LONGEST:
        raise UnsafeText(f"{text[:80]!a}... has {len(text)} characters, and a comment {LONGEST} at most")
    return text


def interface(name: str) -> str:
    """The name of an interface, or the beginning of one. Raises `UnsafeText`."""
    if _INTERFACE.fullmatch(name) is None:
        raise UnsafeText(f"{name[:80]!a} is no name of a network interface")
    return name


def arriving(name: str) -> str:
    """An interface as iptables writes it: any ending is a plus. Raises `UnsafeText`."""
    stem = interface(name).removesuffix("*")
    return name if stem == name else f"{stem}+"[: _IFNAMSIZ - 1]


@lru_cache(maxsize=1 << 13)
def network(text: str) -> IPv4Network | IPv6Network:
    """The network of a CIDR; host bits may be set. Raises ValueError, `UnsafeText` for one with a zone.

    Python takes any text at all after the % of an IPv6 address, and gives it back.
    """
    if "%" in text:
        raise UnsafeText(f"{text[:80]!a} has a zone")
    return ip_network(text.strip(), strict=False)


def name(text: str) -> str:
    """A name for a netlink message, which ends it with a NUL. Raises `UnsafeText`."""
    if "\0" in text:
        raise UnsafeText(f"{text[:80]!a} has a NUL")
    return text


def printable(text: str) -> str:
    """A text that is one line. Raises `UnsafeText`."""
    if _CONTROL.search(text):
        raise UnsafeText(f"{text[:200]!a} has control characters")
    return text
