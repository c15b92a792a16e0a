"""Pieces of rules, spelled as `iptables-save` spells them, so that what we want and what is there compare as text.

Both flavours of iptables 1.8 list the same text. Address and protocol matches come first, then `-m` matches in the
order they were given, then the target. Every piece but the target ends with a blank.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

from nodeagent.dataplane.iptables.naming import MARK_MASQ
from nodeagent.linux.text import word

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_STEPS = 1 << 31  # the kernel's resolution of a probability

LOCAL_DESTINATION = "-m addrtype --dst-type LOCAL "
LOCAL_SOURCE = "-m addrtype --src-type LOCAL "
TO_MASQUERADE = f"-j {MARK_MASQ}"
LAST = "kubernetes service nodeports; NOTE: this must be the last rule in this chain"
REFUSE = {4: "-j REJECT --reject-with icmp-port-unreachable", 6: "-j REJECT --reject-with icmp6-port-unreachable"}
DROP = "-j DROP"


def comment(text: str) -> str:
    """A comment; quoted unless it is a single word. Raises `text.UnsafeText` for what could end the quotes or the line.

    Names of Services and ports are checked where they enter the program; this is what holds should one ever not be.
    """
    if _PLAIN.fullmatch(text):
        return f"-m comment --comment {text} "
    return f'-m comment --comment "{word(text)}" '


@lru_cache(maxsize=1 << 16)
def host(address: bytes) -> str:
    """An address as text."""
    return str(ip_address(address))


def single(address: bytes) -> str:
    """An address as the network of it alone."""
    return f"{host(address)}/{8 * len(address)}"


def endpoint(address: bytes, port: int) -> str:
    """ip:port, with brackets where the address is IPv6: how kube-proxy names, sorts and hashes endpoints."""
    return f"{host(address)}:{port}" if len(address) == 4 else f"[{host(address)}]:{port}"


@lru_cache(maxsize=4096)
def chance(remaining: int) -> str:
    """The match that takes one of `remaining` connections: 1/n to ten digits, in the steps that the kernel has."""
    steps = round(float(f"{1 / remaining:.10f}") * _STEPS)
    return f"-m statistic --mode random --probability {steps / _STEPS:.11f} "


def counted(name: str) -> str:
    """A match that counts into a counter of the kernel; iptables-save puts two blanks before the name."""
    return f"-m nfacct --nfacct-name  {name} "


def recent(family: int, operation: str, name: str) -> str:
    """A match on the list of clients that chain `name` keeps."""
    mask = "255.255.255.255" if family == 4 else ":".join(["ffff"] * 8)
    return f"-m recent {operation} --name {name} --mask {mask} --rsource "
