"""Reads this node: kernel, links, rules, programs. Changes nothing; the modes are tried as an agent tries them.

Everything is of the network namespace of the calling thread. What cannot be read is noted, and the rest goes on.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

from nodeagent.dataplane.modes import ORDER, backend
from nodeagent.doctor import nftables, process
from nodeagent.doctor.chains import all_legacy
from nodeagent.doctor.checks.firewalls import FIREWALLD, UFW, UFW_DEFAULTS
from nodeagent.doctor.facts import Machine, Saved
from nodeagent.errors import AgentError
from nodeagent.linux.errors import KernelUnavailable
from nodeagent.linux.iptables import programs, saved
from nodeagent.linux.iptables.programs import Flavour
from nodeagent.linux.iptables.removal import tables_there
from nodeagent.linux.netlink import rtnetlink as rt
from nodeagent.linux.netlink import wire
from nodeagent.linux.netlink.socket import NetlinkProtocol, NetlinkSocket
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.objects import Table
from nodeagent.linux.nft.tables import is_there

RAW = "raw"
SYSCTLS = (
    "ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv4/conf/all/route_localnet", "ipv4/conf/all/arp_ignore",
    "ipv4/conf/all/arp_announce", "netfilter/nf_conntrack_max", "netfilter/nf_conntrack_count",
    "bridge/bridge-nf-call-iptables", "bridge/bridge-nf-call-ip6tables",
)  # fmt: skip
FILES = (FIREWALLD, UFW, UFW_DEFAULTS)
MOST_BYTES = 256 * 1024
T = TypeVar("T")


def read(root: Path = Path("/")) -> Machine:
    """This node. `root`: where etc and proc are."""
    unread: list[str] = []
    rules = _noted(unread, "nftables' rules", nftables.read, nftables.Nftables())
    policies: dict[str, dict[str, str]] = {}  # of iptables-legacy
    iptables = {each.value: _saved(each, unread, policies) for each in Flavour}
    none: dict[str, str] = {}
    links = _noted(unread, "links", _links, none)
    return Machine(
        release=os.uname().release,
        cores=os.cpu_count() or 1,
        modes={mode: _works(mode) for mode in ORDER},
        sysctls={name: number for name in SYSCTLS if (number := _number(root / "proc/sys/net" / name)) is not None},
        links=frozenset(links),
        bridge_ports=frozenset(name for name, kind in links.items() if kind == "bridge"),
        tables=rules.tables,
        hooks=rules.hooks,
        foreign=(*rules.foreign, *all_legacy(iptables[Flavour.LEGACY.value], policies)),
        iptables=iptables,
        versions=dict(_versions(unread)),
        plain=found.value if (found := programs.plain()) else "",
        processes=_noted(unread, "processes", lambda: tuple(process.here(root / "proc")), ()),
        listening=_noted(unread, "ports in use", lambda: process.listening(root / "proc"), {}),
        files={path: text for path in FILES if (text := _text(root / path.lstrip("/")))},
        unread=tuple(dict.fromkeys(unread)),
    )


def _noted(unread: list[str], what: str, ask: Callable[[], T], instead: T) -> T:
    try:
        return ask()
    except (OSError, AgentError, KernelUnavailable) as error:
        unread.append(f"{what}: {error.strerror if isinstance(error, OSError) else error}")
        return instead


def _works(mode: str) -> str:
    try:
        backend(mode).probe()
    except AgentError as error:
        return str(error)
    return ""


def _links() -> dict[str, str]:
    """By name, the kind of link that each is a port of. /sys may be another network's. Raises OSError."""
    with closing(NetlinkSocket(NetlinkProtocol.ROUTE)) as asking:
        request = wire.frame(rt.GET_LINK, wire.REQUEST | wire.DUMP, 1, rt.all_links())
        return dict(rt.read_port(message.body) for message in asking.ask(request))


def _saved(flavour: Flavour, unread: list[str], policies: dict[str, dict[str, str]]) -> Saved:
    """The rules of both families together; `policies` gets iptables-legacy's, by table and chain. A table
    that is not there is not asked for, which might make it."""
    found: dict[str, dict[str, tuple[str, ...]]] = {}
    for family in (4, 6):
        program = programs.find(flavour, family, "save")
        asked = partial(_tables, flavour, family)
        for table in _noted(unread, f"iptables-{flavour.value}'s tables", asked, list[str]()) if program else ():
            text = _noted(unread, f"iptables-{flavour.value} {table}", partial(_run, program or "", "-t", table), "")
            if flavour is Flavour.LEGACY:
                policies.setdefault(table, {}).update(saved.policies(text))
            for chain, rules in saved.listing(text).items():
                chains = found.setdefault(table, {})
                chains[chain] = (*chains.get(chain, ()), *rules)
    return found


def _tables(flavour: Flavour, family: int) -> list[str]:
    there = list(tables_there(flavour, family))
    if flavour is Flavour.LEGACY:
        return [*there, *({RAW} & programs.legacy_tables(family))]
    try:
        with closing(NetlinkKernel()) as kernel:
            return [*there, *([RAW] if is_there(kernel, Table(family, RAW)) else [])]
    except (AgentError, OSError):
        return there


def _versions(unread: list[str]) -> Iterator[tuple[str, str]]:
    for name, program in (("nft", "nft"), *((f"iptables-{each.value}",) * 2 for each in Flavour)):
        path = programs.which(program)
        said = _noted(unread, f"the version of {name}", partial(_run, path, "--version"), "") if path else ""
        if found := re.search(r"v?(\d+(?:\.\d+)+)", said):
            yield name, found[1]


def _run(*command: str) -> str:
    """What it prints, as text that can be shown. Raises OSError, KernelUnavailable."""
    code, output, said = programs.run(command, "")
    if code:
        raise KernelUnavailable(said)
    return output.encode(errors="surrogateescape").decode(errors="replace")


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")[:MOST_BYTES]
    except OSError:
        return ""
