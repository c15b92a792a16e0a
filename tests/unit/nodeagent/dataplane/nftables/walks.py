"""Services as named states, and what the tables must say of them, for the in-memory and the real kernel."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address

from msgspec.structs import replace

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Hairpin,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.nftables.affinity import ADDRESS_MAPS, NODE_MAPS
from nodeagent.dataplane.nftables.render import firewall
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.dataplane.nftables.shared import LOCAL_OFFSET

SETTINGS = Settings(("10.180.0.0/16", "fd00:10:180::/48"))
NODE_ADDRESSES = ("192.168.0.2", "2001:db8::2")
POD_CIDRS = ("10.180.1.0/24", "fd00:10:180:1::/64")
NODE = NodeForwarding(tuple(ip_address(text).packed for text in NODE_ADDRESSES), pod_cidrs=POD_CIDRS)

State = tuple[ServiceForwarding, ...]


def packed(text: str) -> bytes:
    return ip_address(text).packed


def key(name: str) -> ObjectKey:
    return ObjectKey(Kind.SERVICE, "default", name)


def targets(*numbers: int, family: int = 4, port: int = 8080) -> tuple[Target, ...]:
    network = "10.180.1." if family == 4 else "fd00:10:180:1::"
    return tuple(sorted(Target(packed(f"{network}{number}"), port) for number in numbers))


def cluster_ip(
    address: str, backends: tuple[Target, ...], port: int = 80, protocol: int = 6, empty: Verdict = Verdict.REJECT
) -> Entry:
    family = ip_address(address).version
    frontend = Frontend(FrontendKind.CLUSTER_IP, family, packed(address), protocol, port)
    return Entry(frontend, "p", backends, Verdict.FORWARD if backends else empty, Masquerade.OFF_CLUSTER)


def node_port(number: int, backends: tuple[Target, ...], family: int = 4, protocol: int = 6) -> Entry:
    frontend = Frontend(FrontendKind.NODE_PORT, family, b"", protocol, number)
    return Entry(frontend, "p", backends, Verdict.FORWARD if backends else Verdict.REJECT, Masquerade.ALWAYS)


def local_policy(
    frontend: Frontend, backends: tuple[Target, ...], local: tuple[Target, ...], ranges: tuple[str, ...] = ()
) -> Entry:
    external = Verdict.FORWARD if local else Verdict.DROP
    masquerade = Masquerade.NODE_ONLY
    return Entry(frontend, "p", backends, Verdict.FORWARD, masquerade, local, external, source_ranges=ranges)


def external(
    frontend: Frontend, backends: tuple[Target, ...], ranges: tuple[str, ...] = (), empty: Verdict = Verdict.REJECT
) -> Entry:
    """An external address under Cluster policy."""
    verdict = Verdict.FORWARD if backends else empty
    return Entry(frontend, "p", backends, verdict, Masquerade.ALWAYS, source_ranges=ranges)


def sticky(entry: Entry, seconds: int = 10800) -> Entry:
    return replace(entry, affinity_seconds=seconds)


def service(name: str, *entries: Entry, hairpins: Iterable[Hairpin] = ()) -> ServiceForwarding:
    return ServiceForwarding(key(name), entries, tuple(sorted(hairpins)))


def both(name: str, *numbers: int) -> ServiceForwarding:
    """A node port Service of both families with these endpoints, the first of them on this node."""
    four, six = targets(*numbers), targets(*numbers, family=6)
    hairpins = [Hairpin(t.address, 6, t.port) for t in (*four[:1], *six[:1])]
    return service(
        name,
        *(cluster_ip("172.30.0.1", four), cluster_ip("fd00:10:96::1", six)),
        *(node_port(30080, four), node_port(30080, six, family=6)),
        hairpins=hairpins,
    )


RANGES = ("203.0.113.0/25", "10.0.0.0/8")
EXTERNAL = Frontend(FrontendKind.EXTERNAL_IP, 4, packed("203.0.113.9"), 6, 80)

VIP = Frontend(FrontendKind.LOAD_BALANCER, 4, packed("198.51.100.7"), 6, 80)


def all_sticky(one: ServiceForwarding, seconds: int = 10800) -> ServiceForwarding:
    return replace(one, entries=tuple(sticky(entry, seconds) for entry in one.entries))


STATES: dict[str, State] = {
    "nothing": (),
    "one endpoint": (both("web", 1),),
    "five endpoints": (both("web", 1, 2, 3, 4, 5),),
    "four others": (both("web", 9, 2, 7, 4),),
    "no endpoint": (both("web"),),
    "dropped": (service("web", cluster_ip("172.30.0.1", (), empty=Verdict.DROP)),),
    "moved": (service("web", cluster_ip("172.30.0.7", targets(1, 2)), node_port(30081, targets(1, 2))),),
    "another owner": (service("other", cluster_ip("172.30.0.1", targets(3)), node_port(30080, targets(3))),),
    "two protocols": (
        service("dns", cluster_ip("172.30.0.1", targets(1, 2), 53, 17), cluster_ip("172.30.0.1", targets(1), 53, 6)),
    ),
    "two services": (both("web", 1, 2, 3), service("other", cluster_ip("172.30.0.5", targets(1), 443))),
    "local policy": (service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(1, 2))),),
    "local policy, nothing local": (service("web", local_policy(EXTERNAL, targets(1, 2, 3), ())),),
    "load balancer": (service("web", external(VIP, targets(1, 2))),),
    "load balancer, some sources": (service("web", external(VIP, targets(1, 2), RANGES)),),
    "load balancer, one source": (service("web", external(VIP, targets(1, 2), ("203.0.113.7/32",))),),
    "load balancer, some sources, no endpoint": (service("web", external(VIP, (), RANGES)),),
    "affinity": (all_sticky(both("web", 1, 2, 3)),),
    "affinity, shorter": (all_sticky(both("web", 1, 2, 3), 60),),
    "affinity, others": (all_sticky(both("web", 7, 2, 4, 5, 6)),),
    "affinity, local policy": (
        all_sticky(service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(1, 2), RANGES))),
    ),
}


def expected(state: State, node: NodeForwarding) -> dict[int, dict[str, set[object]]]:
    """What the tables must hold: endpoints without their slots, everything else exactly."""
    result: dict[int, dict[str, set[object]]] = {family: {} for family in (4, 6)}
    for entry in (entry for one in state for entry in one.entries):
        for name, value in _expected(entry):
            result[entry.frontend.family].setdefault(name, set()).add(value)
    for pin in (pin for one in state for pin in one.hairpins):
        result[4 if len(pin.address) == 4 else 6].setdefault("hairpins", set()).add(tuple(pin))
    for address in node.node_port_addresses:
        result[4 if len(address) == 4 else 6].setdefault("node", set()).add(address)
    return result


def _expected(entry: Entry) -> Iterator[tuple[str, object]]:
    front = entry.frontend
    name = (front.address, front.protocol, front.port)
    if front.kind is FrontendKind.CLUSTER_IP:
        yield "cluster-ips", front.address
    yield from (("endpoints", (*name, False, target)) for target in entry.targets)
    yield from (("endpoints", (*name, True, target)) for target in entry.local_targets or ())
    if entry.targets:
        yield "served", name
        yield "sticky", (name, entry.affinity_seconds)
    if entry.source_ranges:
        yield "firewalls", (name, firewall(entry.source_ranges)[0])
    refusal = entry.verdict or entry.external_verdict
    if refusal:
        yield "refused", (*name, refusal.name.lower())


def seen(dump: dict[int, dict[str, dict[bytes, bytes | str]]]) -> dict[int, dict[str, set[object]]]:
    """The same of a dump; fails where the slots of a list are not dense or its chain does not fit their number."""
    result: dict[int, dict[str, set[object]]] = {}
    for family, tables in dump.items():
        sets: dict[str, set[object]] = {
            "cluster-ips": set(tables["cluster-ips"]),
            "node": set(tables["nodeport-ips"]),
            "hairpins": {_hairpin(k, family) for k in tables["hairpin-connections"]},
            "firewalls": {(_name(k), chain) for k, chain in tables["firewall-ips"].items()},
        }
        _see_frontends(sets, tables, ("service-ips", "no-endpoint-services"), ("endpoints", *ADDRESS_MAPS))
        _see_frontends(sets, tables, ("service-nodeports", "no-endpoint-nodeports"), ("nodeport-endpoints", *NODE_MAPS))
        result[family] = {name: found for name, found in sets.items() if found}
    return result


def _see_frontends(
    sets: dict[str, set[object]],
    tables: dict[str, dict[bytes, bytes | str]],
    verdicts: tuple[str, str],
    lists: tuple[str, str, str, str],
) -> None:
    dispatch, refusals = verdicts
    counts: dict[tuple[bytes, bool], int] = {}
    elements = {**tables[lists[0]], **dict(_resolved(tables, lists[1:]))}
    assert len(elements) == len(tables[lists[0]]) + len(tables[lists[1]])
    for element, value in elements.items():
        assert isinstance(value, bytes)
        slot = int.from_bytes(element[-4:], "little")
        local = slot >= LOCAL_OFFSET
        front = element[:-4]
        counts[front, local] = counts.get((front, local), 0) + 1
        assert slot in (0, LOCAL_OFFSET) or front + (slot - 1).to_bytes(4, "little") in elements
        target = Target(value[:-4], int.from_bytes(value[-4:-2], "big"))
        sets.setdefault("endpoints", set()).add((*_name(front), local, target))
    for element, chain in tables[dispatch].items():
        assert isinstance(chain, str)
        head, _, tail = chain.partition("/")
        size = next(int(word) for word in head.split("-") if word.isdigit())
        assert (0 if size == 4 else size // 2) < counts[element, False] <= size
        assert (element + bytes(4) in tables[lists[1]]) is bool(tail)
        sets.setdefault("served", set()).add(_name(element))
        sets.setdefault("sticky", set()).add((_name(element), int(tail.split("/")[0]) if tail else 0))
    sets.setdefault("refused", set()).update((*_name(k), v) for k, v in tables[refusals].items())


def _resolved(
    tables: dict[str, dict[bytes, bytes | str]], names: tuple[str, ...]
) -> Iterator[tuple[bytes, bytes | str]]:
    """The slots of frontends with affinity, with the endpoints behind their numbers; fails where one has none."""
    by_slot, everywhere, here = (tables[name] for name in names)
    assert len(by_slot) == len(everywhere) + len(here)
    for element, number in by_slot.items():
        assert isinstance(number, bytes)
        local = int.from_bytes(element[-4:], "little") >= LOCAL_OFFSET
        yield element, (here if local else everywhere)[element[:-4] + number]


def _name(front: bytes) -> tuple[bytes, int, int]:
    return front[:-8], front[-8], int.from_bytes(front[-4:-2], "big")


def _hairpin(element: bytes, family: int) -> tuple[bytes, int, int]:
    width = 4 if family == 4 else 16
    assert element[:width] == element[width : 2 * width]
    return element[:width], element[-8], int.from_bytes(element[-4:-2], "big")
