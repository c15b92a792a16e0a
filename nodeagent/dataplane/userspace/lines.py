"""Redirects in iptables' words: the constant chains, the lines of each slot, and slots read back from lines. Pure.

`iptables` puts them into restores. Rules stand exactly as `iptables-save` prints them, so that what is listed can be
compared. Sources outside that a policy drops leave the nat table untranslated, and the filter table drops what still
has the Service's address; pods of other nodes are such sources. As in iptables mode, only the
addresses and ports of Services are known (F5, F6), and an address without endpoints refuses everybody (F7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network, summarize_address_range

from deltaplane.model import PROTOCOL_NAMES, PROTOCOL_NUMBERS
from nodeagent.dataplane import local_traffic
from nodeagent.dataplane.frontend_key import is_frontend, is_node_port, packed, port_of
from nodeagent.dataplane.set_members import ANYWHERE_MEMBER, NODE_PORT_MEMBER, OWN_POD_MEMBER
from nodeagent.dataplane.userspace import tracker as t
from nodeagent.dataplane.userspace.settings import Settings
from nodeagent.dataplane.userspace.tracker import STANDS, Placement, Value
from nodeagent.linux.iptables.saved import Line, Listing
from nodeagent.linux.text import arriving

NAT, FILTER = "nat", "filter"
TOP = "DELTAPLANE-US"
INSIDE, IPS, IPS_OUTSIDE = f"{TOP}-INSIDE", f"{TOP}-IPS", f"{TOP}-IPS-OUTSIDE"
AT, AT_OUTSIDE = f"{TOP}-AT", f"{TOP}-AT-OUTSIDE"  # by destination: where node ports answer
PORTS, PORTS_OUTSIDE = f"{TOP}-PORTS", f"{TOP}-PORTS-OUTSIDE"
PODS = f"{TOP}-PODS"  # this node's, where the detector tells all nodes'
GUARD = f"{TOP}-GUARD"  # who was not redirected has no business at the listeners
STRAY = "stray"  # the map of lines that make no placement of ours
_REJECT = {4: "REJECT --reject-with icmp-port-unreachable", 6: "REJECT --reject-with icmp6-port-unreachable"}
_RESET = "REJECT --reject-with tcp-reset"  # IPv6 TCP: see the nftables program
_LOOPBACK = {4: "127.0.0.0/8", 6: "::1/128"}


_CHAINS = {  # by map: the chain of what leads to a listener
    t.REDIRECTS: IPS,
    t.OUTSIDE: IPS_OUTSIDE,
    t.NODE_PORTS: PORTS,
    t.NODE_PORTS_OUTSIDE: PORTS_OUTSIDE,
}
_REFUSING = {t.REFUSALS: TOP, t.NODE_REFUSALS: PORTS, t.REFUSALS_OUTSIDE: TOP, t.NODE_REFUSALS_OUTSIDE: PORTS}
_UNTRANSLATED = {t.REFUSALS_OUTSIDE: IPS_OUTSIDE, t.NODE_REFUSALS_OUTSIDE: PORTS_OUTSIDE}
VARIABLE = {NAT: (IPS, IPS_OUTSIDE, PORTS, PORTS_OUTSIDE, AT, AT_OUTSIDE, PODS), FILTER: (PORTS, AT)}


def constant(family: int, settings: Settings) -> dict[tuple[str, str], list[str]]:
    """The chains that never change, by table and name. Raises ValueError for a CIDR that is none."""
    node = f"-m addrtype --src-type LOCAL -g {INSIDE}"
    return {
        (NAT, TOP): [*_pods(family, settings), node, *_to(IPS_OUTSIDE, AT_OUTSIDE), f"-g {INSIDE}"],
        (NAT, INSIDE): _to(IPS, AT),
        (FILTER, GUARD): [f"{_to_host(settings.address(family))} -m conntrack ! --ctstate DNAT -j DROP"],
    }


def _pods(family: int, settings: Settings) -> list[str]:
    """The rule for this node's pods, if there is a way to tell them."""
    if settings.interface:
        return [f"-i {arriving(settings.interface)} -g {INSIDE}"]
    network = settings.network(family)
    if network is None:
        return []
    if local_traffic.of_all_nodes(settings, family):
        return [f"-s {network} -j {PODS}"]
    return [f"-s {network} -g {INSIDE}" if network.prefixlen else f"-g {INSIDE}"]


def _to(*chains: str) -> list[str]:
    return [f"-j {chain}" for chain in chains]


def jumps(settings: Settings) -> list[Line]:
    """What stands in the kernel's own chains."""
    spared = f"-m mark ! --mark {settings.mark:#x}/{settings.mark:#x} "
    new = "-m conntrack --ctstate NEW "
    return [
        Line(NAT, "PREROUTING", f"-j {TOP}"),
        Line(NAT, "OUTPUT", f"{spared}-j {INSIDE}"),
        Line(FILTER, "INPUT", f"{new}-j {GUARD}"),
        Line(FILTER, "INPUT", f"{new}-j {AT}"),
        *(Line(FILTER, chain, f"{new}-j {TOP}") for chain in ("INPUT", "FORWARD", "OUTPUT")),
    ]


def lines(slot: bytes, placement: Placement) -> dict[Line, None]:
    """Everything that stands for a slot."""
    if not is_frontend(slot):
        return dict.fromkeys(_members(slot)) if placement else {}
    found: dict[Line, None] = {}
    for name, value in placement:
        if name == STRAY:
            found.update((Line(*text.split("\t")), None) for text in str(value).split("\n"))
        else:
            found.update(dict.fromkeys(_frontend(slot, name, value)))
    return found


def _frontend(slot: bytes, name: str, value: Value) -> list[Line]:
    match = _match(slot)
    if isinstance(value, bytes):
        address, port = ip_address(value[:-4]), int.from_bytes(value[-4:-2], "big")
        to = f"[{address}]:{port}" if slot[0] == 6 else f"{address}:{port}"
        return [Line(NAT, _CHAINS[name], f"{match} -j DNAT --to-destination {to}")]
    target = "DROP" if value == "drop" else _RESET if (slot[0], slot[-8]) == (6, 6) else _REJECT[slot[0]]
    untranslated = [Line(NAT, _UNTRANSLATED[name], f"{match} -j ACCEPT")] if name in _UNTRANSLATED else []
    return [*untranslated, Line(FILTER, _REFUSING[name], f"{match} -j {target}")]


def _match(slot: bytes) -> str:
    protocol = PROTOCOL_NAMES[slot[-8]]
    port = f"-p {protocol} -m {protocol} --dport {port_of(slot)}"
    return port if is_node_port(slot) else f"{_to_host(slot[1:-8])} {port}"


def _to_host(address: bytes) -> str:
    return f"-d {ip_address(address)}/{8 * len(address)}"


def _members(slot: bytes) -> list[Line]:
    """A node port address, or all of the machine, or this node's pods; the other sets have no lines."""
    if slot[1] == OWN_POD_MEMBER:
        middle = 1 + len(slot) // 2
        networks = summarize_address_range(*map(ip_address, (slot[2:middle], slot[middle:])))
        return [Line(NAT, PODS, f"-s {network} -j {INSIDE}") for network in networks]
    if slot[1] == NODE_PORT_MEMBER:
        match = f"{_to_host(slot[2:])} "
    elif slot[1] == ANYWHERE_MEMBER and slot[2] in PROTOCOL_NAMES:
        match = f"! -d {_LOOPBACK[slot[0]]} -p {PROTOCOL_NAMES[slot[2]]} -m addrtype --dst-type LOCAL "
    else:
        return []
    return [
        Line(NAT, AT, f"{match}-j {PORTS}"),
        Line(NAT, AT_OUTSIDE, f"{match}-j {PORTS_OUTSIDE}"),
        Line(FILTER, AT, f"{match}-j {PORTS}"),
    ]


# ------------------------------------------------------------ reading back

_PORT = r"-p (?P<protocol>\w+) -m \w+ --dport (?P<port>\d+) "
_FRONTEND = re.compile(rf"(?:-d (?P<address>\S+)/\d+ )?{_PORT}-j (?P<target>[\w-]+)(?: --to-destination (?P<to>\S+))?")
_NODE_ADDRESS = re.compile(r"-d (?P<address>\S+)/\d+ -j ")
_POD_CIDR = re.compile(r"-s (?P<network>\S+) -j ")
_ANYWHERE = re.compile(r"! -d \S+ -p (?P<protocol>\w+) -m addrtype --dst-type LOCAL -j ")
_MAPS = {chain: name for name, chain in _CHAINS.items()}
_OUTSIDE_MAPS = {chain: name for name, chain in _UNTRANSLATED.items()}


def slots(family: int, tables: Mapping[str, Listing]) -> dict[bytes, Placement]:
    """What these tables hold of ours, by slot. Raises ValueError for a line that is none of ours."""
    held: dict[bytes, dict[Line, None]] = {}
    for line in _variable(tables):
        held.setdefault(_slot(family, line.rule), {})[line] = None
    return {slot: _placement(slot, found) for slot, found in held.items()}


def _variable(tables: Mapping[str, Listing]) -> Iterable[Line]:
    for table, chains in VARIABLE.items():
        for chain in (*chains, *((TOP,) if table == FILTER else ())):
            yield from (Line(table, chain, rule) for rule in tables[table].get(chain, ()))


def _slot(family: int, rule: str) -> bytes:
    head = bytes((family,))
    if found := _FRONTEND.match(rule):
        address = ip_address(found["address"]).packed if found["address"] else b""
        protocol, port = PROTOCOL_NUMBERS.get(found["protocol"], 0), int(found["port"])
        return packed(family, address, protocol, port)
    if found := _NODE_ADDRESS.match(rule):
        return head + bytes((NODE_PORT_MEMBER,)) + ip_address(found["address"]).packed
    if found := _POD_CIDR.match(rule):
        network = ip_network(found["network"])
        edges = network.network_address.packed + network.broadcast_address.packed
        return head + bytes((OWN_POD_MEMBER,)) + edges
    if found := _ANYWHERE.match(rule):
        return head + bytes((ANYWHERE_MEMBER, PROTOCOL_NUMBERS.get(found["protocol"], 0)))
    raise ValueError(f"{rule}: not a rule of ours")


def _placement(slot: bytes, found: Mapping[Line, None]) -> Placement:
    """The placement that makes exactly these lines; else they are strays, which go with the slot's next change."""
    if not is_frontend(slot):
        if lines(slot, STANDS) != dict(found):
            raise ValueError("a node port address lacks a rule")
        return STANDS
    placement = tuple(sorted(_values(slot, found).items()))
    if lines(slot, placement).keys() == found.keys():
        return placement
    return ((STRAY, "\n".join(sorted("\t".join(line) for line in found))),)


def _values(slot: bytes, found: Iterable[Line]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    refusal, outside = "", ""
    for line in found:
        parts = _FRONTEND.match(line.rule)
        if parts is None:
            continue
        if parts["to"]:
            values[_MAPS[line.chain]] = _value(parts["to"])
        elif line.table == NAT:
            outside = line.chain
        else:
            refusal = "drop" if parts["target"] == "DROP" else "reject"
    if refusal:
        usual = t.NODE_REFUSALS if is_node_port(slot) else t.REFUSALS
        values[_OUTSIDE_MAPS.get(outside, usual)] = refusal
    return values


def _value(to: str) -> bytes:
    address, _, port = to.rpartition(":")
    return ip_address(address.strip("[]")).packed + int(port).to_bytes(2, "big") + b"\0\0"
