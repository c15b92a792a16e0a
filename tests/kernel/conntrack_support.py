"""A node's connection tracking table, filled and listed with the stock tool."""

from __future__ import annotations

import re
from ipaddress import ip_address

from deltaplane.forwarding import Target
from nodeagent.conntrack.places import Place
from tests.fakes.conntrack import Tracked
from tools.lab.netns import Namespace
from tools.lab.rules import run

NAMES = {6: "tcp", 17: "udp", 132: "sctp"}
NUMBERS = {name: number for number, name in NAMES.items()}
_STATES = {
    (6, True): " --state ESTABLISHED",
    (6, False): " --state SYN_SENT",
    (132, True): " --state ESTABLISHED --orig-vtag 1 --reply-vtag 2",
    (132, False): " --state COOKIE_WAIT --orig-vtag 1 --reply-vtag 2",
}
_LINE = re.compile(
    r"(?P<protocol>\w+) .*?src=(?P<client>\S+) dst=(?P<to>\S+) sport=(?P<from_port>\d+) dport=(?P<port>\d+)"
    r"(?P<waits> \[UNREPLIED\])? src=(?P<source>\S+) dst=\S+ sport=(?P<source_port>\d+)(?:.* zone=(?P<zone>\d+))?"
)


def insert(space: Namespace, entries: list[Tracked]) -> None:
    """Puts entries into the table with the stock tool."""
    run(space, "conntrack", "-R", "/proc/self/fd/0", stdin="".join(f"{_command(entry)}\n" for entry in entries))


def _command(entry: Tracked) -> str:
    (client, port), (to, to_port, _), (source, source_port) = entry.client, entry.place, entry.source
    state = _STATES.get((entry.protocol, entry.answered), "")
    status = " --status SEEN_REPLY" if entry.answered else ""
    zone = f" --zone {entry.zone}" if entry.zone else ""
    return (
        f"-I -p {NAMES[entry.protocol]} -s {ip_address(client)} -d {ip_address(to)} --sport {port} --dport {to_port} "
        f"--reply-src {ip_address(source)} --reply-dst {ip_address(client)} --reply-port-src {source_port} "
        f"--reply-port-dst {port} --timeout 600{state}{status}{zone}"
    )


def listed(space: Namespace) -> set[Tracked]:
    """What the stock tool lists, ICMP left out."""
    found = set()
    for family in ("ipv4", "ipv6"):
        for line in run(space, "conntrack", "-L", "-f", family).splitlines():
            match = _LINE.match(line)
            if match is not None:
                found.add(_read(match))
    return found


def _read(match: re.Match[str]) -> Tracked:
    address = {name: ip_address(match[name]).packed for name in ("client", "to", "source")}
    return Tracked(
        (address["client"], int(match["from_port"])),
        Place(address["to"], int(match["port"])),
        Target(address["source"], int(match["source_port"])),
        NUMBERS[match["protocol"]],
        int(match["zone"] or 0),
        match["waits"] is None,
    )
