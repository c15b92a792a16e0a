"""The one place where text for another program is let through: iptables-restore reads a line as options.

Nothing is quoted by hope: what is outside the alphabet is refused, and so is that object alone. Called by
iptables, ipvs and userspace mode for comments and interfaces.
"""

from __future__ import annotations

import re

_ALPHABET = re.compile(r"[A-Za-z0-9 ./:;,>\[\]()_+-]*")
_INTERFACE = re.compile(r"[A-Za-z0-9_.@:-]{1,15}[+*]?")


class UnsafeText(ValueError):
    """A text that another program could read as more than a word. Backends make it INVALID_OBJECT of its object."""


def word(text: str) -> str:
    """The text, if it can stand between quotes. Raises `UnsafeText`."""
    if _ALPHABET.fullmatch(text) is None:
        raise UnsafeText(f"{text[:80]!a} has characters that a rule cannot have")
    return text


def interface(name: str) -> str:
    """The name of an interface, or the beginning of one. Raises `UnsafeText`."""
    if _INTERFACE.fullmatch(name) is None:
        raise UnsafeText(f"{name[:80]!a} is no name of a network interface")
    return name
