"""Services and tracked flows that the table in memory and the kernel's own are checked with alike."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address

from msgspec.structs import replace

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from nodeagent.conntrack.places import Place
from tests.fakes.conntrack import Tracked

TCP, UDP, SCTP = 6, 17, 132
SERVICE_PORT, NODE_PORT, OTHER_PORT = 8000, 32000, 3000
ENDPOINT_PORT, OLD_PORT = 9090, 8080
VIRTUAL = {  # cluster IP, external IP, load balancer IP
    4: ("172.30.1.1", "192.168.99.100", "1.2.3.4"),
    6: ("fd00:10:96::1", "2001:db8:99::100", "2001:db8:1b::4"),
}
NODE = {4: ("192.168.0.2", "192.168.1.2"), 6: ("2001:db8::1", "2001:db8:1::2")}
ELSEWHERE = {4: "203.0.113.9", 6: "2001:db8:f::9"}  # neither the node's nor a Service's
SERVING, NOT_SERVING, GONE = (  # by family
    {4: "10.240.0.4", 6: "fd00:10:240::4"},
    {4: "10.240.1.5", 6: "fd00:10:240:1::5"},
    {4: "10.240.2.6", 6: "fd00:10:240:2::6"},
)
KINDS = (FrontendKind.CLUSTER_IP, FrontendKind.EXTERNAL_IP, FrontendKind.LOAD_BALANCER)


def packed(text: str) -> bytes:
    return ip_address(text).packed


def place(text: str, port: int) -> Place:
    return Place(packed(text), port)


def target(text: str, port: int = ENDPOINT_PORT) -> Target:
    return Target(packed(text), port)


def node(*families: int, number: int = 2) -> NodeForwarding:
    """The node's first `number` addresses of these families (both, if none is said)."""
    return NodeForwarding(tuple(sorted(packed(a) for family in families or (4, 6) for a in NODE[family][:number])))


def addresses(*families: int, number: int = 2) -> frozenset[bytes]:
    """The same as a set."""
    return frozenset(node(*families, number=number).node_port_addresses)


def key(name: str = "web") -> ObjectKey:
    return ObjectKey(Kind.SERVICE, "default", name)


def entry(
    kind: FrontendKind,
    family: int,
    address: str,
    port: int,
    serving: Iterable[Target] = (),
    *,
    protocol: int = UDP,
) -> Entry:
    """A frontend that forwards to all that serves."""
    targets = tuple(sorted(serving))
    return Entry(
        frontend=Frontend(kind, family, packed(address) if address else b"", protocol, port),
        port_name="p",
        targets=targets,
        verdict=Verdict.FORWARD if targets else Verdict.REJECT,
        masquerade=Masquerade.ALWAYS,
        serving=targets if protocol == UDP else (),
    )


def service(*entries: Entry, name: str = "web") -> ServiceForwarding:
    return ServiceForwarding(key(name), entries)


def simple(family: int, *serving: Target, name: str = "web", protocol: int = UDP) -> ServiceForwarding:
    """A cluster IP and a node port."""
    return service(
        entry(FrontendKind.CLUSTER_IP, family, VIRTUAL[family][0], SERVICE_PORT, serving, protocol=protocol),
        entry(FrontendKind.NODE_PORT, family, "", NODE_PORT, serving, protocol=protocol),
        name=name,
    )


def balanced(family: int, serving: Iterable[Target], *ranges: str, name: str = "web") -> ServiceForwarding:
    """A cluster IP, a node port, and a load balancer's address for clients in these ranges (none: for everybody)."""
    serving = tuple(serving)
    balancer = entry(FrontendKind.LOAD_BALANCER, family, VIRTUAL[family][2], SERVICE_PORT, serving)
    return service(*simple(family, *serving).entries, replace(balancer, source_ranges=ranges), name=name)


def everything(family: int, serving: Iterable[Target]) -> ServiceForwarding:
    """All kinds of frontends on all protocols, TCP without a node port."""
    serving = tuple(serving)
    entries = [
        entry(kind, family, address, SERVICE_PORT, serving, protocol=protocol)
        for protocol in (TCP, UDP, SCTP)
        for kind, address in zip(KINDS, VIRTUAL[family], strict=True)
    ]
    entries += [entry(FrontendKind.NODE_PORT, family, "", NODE_PORT, serving, protocol=how) for how in (UDP, SCTP)]
    return service(*entries)


def itself(there: Place) -> Target:
    """Who answers a flow that nobody translated."""
    return Target(there.address, there.port)


def before(family: int) -> list[Target]:
    """Who served earlier: the one that still does, also on its old port, and two that went."""
    return [target(SERVING[family], OLD_PORT), *(target(who[family]) for who in (SERVING, NOT_SERVING, GONE))]


def after(family: int) -> list[Target]:
    return [target(SERVING[family])]


def matrix(family: int) -> list[tuple[Tracked, bool]]:
    """Flows as they are when only `SERVING` is left, and whether each is stale: endpoints x protocols x destinations.

    Every client is another one, so that the entries can stand in one table.
    """
    old = target(SERVING[family], OLD_PORT)
    rows = [(place(virtual, SERVICE_PORT), old, int(UDP), True) for virtual in VIRTUAL[family]]
    for who in (SERVING, NOT_SERVING, GONE):
        to, wrong = target(who[family]), who is not SERVING
        for protocol in (TCP, UDP, SCTP):
            stale = protocol == UDP and wrong
            for virtual in VIRTUAL[family]:
                rows.append((place(virtual, SERVICE_PORT), to, protocol, stale))
                rows.append((place(virtual, OTHER_PORT), to, protocol, False))
            rows += [(place(address, NODE_PORT), to, protocol, stale) for address in NODE[family]]
            rows.append((place(ELSEWHERE[family], NODE_PORT), to, protocol, False))  # only the port is alike (J4)
    client = packed("198.51.100.7" if family == 4 else "2001:db8:c::7")
    return [
        (Tracked((client, 20000 + number), there, source, protocol), stale)
        for number, (there, source, protocol, stale) in enumerate(rows)
    ]


def untranslated(family: int) -> list[tuple[Tracked, bool]]:
    """Flows from the time when nobody translated them: the frontend's own are stale once it is there (J2)."""
    client = packed("198.51.100.8" if family == 4 else "2001:db8:c::8")
    places = [
        (place(virtual, port), port == SERVICE_PORT)
        for virtual in VIRTUAL[family]
        for port in (SERVICE_PORT, OTHER_PORT)
    ]
    places += [(place(NODE[family][0], NODE_PORT), True), (place(ELSEWHERE[family], NODE_PORT), False)]
    return [
        (Tracked((client, 30000 + number), there, itself(there)), stale) for number, (there, stale) in enumerate(places)
    ]


def attempts(family: int) -> list[tuple[Tracked, bool]]:
    """Connections and attempts, and whether each is in its own way once there is `simple` of TCP, and of SCTP.

    Only what nobody has answered or translated is, at a place of the Service.
    """
    client = packed("198.51.100.9" if family == 4 else "2001:db8:c::9")
    endpoint, virtual = target(SERVING[family]), VIRTUAL[family][0]
    ours = [place(virtual, SERVICE_PORT), *(place(address, NODE_PORT) for address in NODE[family])]
    others = [place(virtual, OTHER_PORT), place(ELSEWHERE[family], NODE_PORT), place(NODE[family][0], SERVICE_PORT)]
    rows = [(there, itself(there), UDP, True, False) for there in ours]
    for protocol in (TCP, SCTP):
        rows += [(there, itself(there), protocol, False, there in ours) for there in ours + others]
        rows += [(there, itself(there), protocol, True, False) for there in ours]  # a listener of the node's own, say
        rows += [(there, endpoint, protocol, answered, False) for there in ours for answered in (False, True)]
    return [
        (Tracked((client, 40000 + number), there, source, protocol, answered=answered), stale)
        for number, (there, source, protocol, answered, stale) in enumerate(rows)
    ]


def connectable(family: int, *serving: Target) -> list[ServiceForwarding]:
    """What `attempts` are to reach."""
    return [
        simple(family, *serving, name="tcp", protocol=TCP),
        simple(family, *serving, name="sctp", protocol=SCTP),
    ]
