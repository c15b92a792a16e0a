"""What a namespace's kernel holds of any proxy mode, as stock tools list it: to compare two ways to the same state."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nodeagent.dataplane.modes import ORDER, backend
from nodeagent.errors import DataplaneUnavailable
from tools.lab.netns import Namespace
from tools.lab.rules import run

_COUNTERS = re.compile(
    r" (?:counter )?packets \d+ bytes \d+| handle \d+|\[\d+:\d+\]|(?: expires [0-9dhms]+)| initval \S+"
)
_SLOT = re.compile(r"( \. (?:tcp|udp|sctp) \. \d+|^(?:tcp|udp|sctp) \. \d+) \. \d+ : ")
_SPARE = re.compile(r"\tchain (?:cluster|node|external|nodeport|local)(?:-local)?(?:-\d+)+ \{\n.*?\n\t\}\n", re.DOTALL)
_NOTED = " timeout 5d"  # where connections were sent: packets wrote it
_LISTENER = re.compile(r"(169\.254\.86\.1|fd64:656c:7461::1)(?: \. |:|\]:)\d+")


def here() -> tuple[str, ...]:
    """The modes that this machine can do, the best first."""
    return tuple(mode for mode in ORDER if _works(mode))


def _works(mode: str) -> bool:
    try:
        backend(mode).probe()
    except DataplaneUnavailable:
        return False
    return True


def listing(space: Namespace) -> list[str]:
    """Every table, chain, rule, set and address there is, without counters and in an order of its own.

    Left out are nftables mode's chains for so many endpoints: all Services share them, and they may stay when unused;
    and what only packets write.
    """
    return sorted(set(_lines(space)))


def _lines(space: Namespace) -> Iterator[str]:
    for family in ("ip", "ip6", "inet", "arp", "bridge", "netdev"):
        # One nft for each: in one that lists both, it shows the DNAT targets of iptables of the first one only.
        yield from _elements(_SPARE.sub("", run(space, "nft", "list", "ruleset", family, check=False)))
    for program in ("iptables-legacy-save", "ip6tables-legacy-save"):
        saved = run(space, program, check=False).splitlines()
        yield from (f"{program} {_plain(line)}" for line in saved if not line.startswith("#"))
    yield from map(_plain, run(space, "ipset", "save", check=False).splitlines())
    yield from _servers(run(space, "ipvsadm", "-Sn", check=False).splitlines())
    for device in ("lo", "kube-ipvs0"):
        addresses = run(space, "ip", "-o", "address", "show", "dev", device, check=False).splitlines()
        yield from (line.partition(": ")[2] for line in addresses)


def _servers(lines: list[str]) -> Iterator[str]:
    """Virtual and real servers; a real one that still has connections may be there for them, with weight 0."""
    return (line for line in lines if not line.endswith("-w 0"))


def _elements(text: str) -> Iterator[str]:
    """Lines of `nft list`, with the elements of a set one by one: their order is the kernel's own."""
    inside = False
    for line in map(_plain, text.splitlines()):
        inside = inside or line.startswith("elements = {")
        texts = line.removeprefix("elements = {").removesuffix("}").split(", ") if inside else [line]
        yield from (_SLOT.sub(r"\1 : ", text.strip()) for text in texts if not text.rstrip().endswith(_NOTED))
        inside = inside and not line.endswith("}")


def _plain(line: str) -> str:
    """Without what differs between two ways there: counters, handles, seeds, which slot an endpoint has, ports."""
    return _LISTENER.sub(r"\1 . port", _COUNTERS.sub("", line)).strip().rstrip(",")
