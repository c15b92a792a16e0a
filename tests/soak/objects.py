"""Random objects over small pools, so that names, addresses, ports and endpoints collide and move between owners."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from random import Random

from msgspec.structs import replace

from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    IpMode,
    Kind,
    LoadBalancerIngress,
    Node,
    Object,
    ObjectKey,
    Service,
    ServiceCidr,
    ServicePort,
    ServiceType,
    TrafficPolicy,
)

HERE = "n1"  # the node under test
OWN = ObjectKey(Kind.NODE, "", HERE)

_SERVICES, _SLICES = 14, 24
_ZONES = ("", "a", "b")
_NODES = (HERE, HERE, "n2", "n3", "")
_CONDITIONS = (3, 3, 3, 3, 2, 6, 7, 4, 0)  # nil resolved: mostly ready and serving
_PORTS = [(f"p{number}", protocol) for number in range(2) for protocol in (6, 17)] + [("p0", 132)]


def _pool(prefix: str, count: int) -> list[bytes]:
    return [ip_address(f"{prefix}{number}").packed for number in range(1, count + 1)]


_CLUSTER = {4: _pool("10.96.0.", 12), 6: _pool("fd00:96::", 12)}
_OUTSIDE = {4: _pool("198.51.100.", 5), 6: _pool("2001:db8:2::", 5)}
_PODS = {4: _pool("10.244.1.", 40), 6: _pool("fd00:244::", 40)}
_OF_NODES = {4: _pool("192.0.2.", 4), 6: _pool("2001:db8:1::", 4)}
_RANGES = (
    "10.0.0.0/8",
    "10.9.0.0/16",
    "192.0.2.0/24",
    "203.0.113.7/32",
    "0.0.0.0/0",
    "fd00::/16",
    "2001:db8::/32",
    "::/0",
)
_CIDRS = ("10.96.0.0/16", "10.96.0.0/20", "10.97.0.0/16", "10.98.1.0/24", "fd00:96::/112", "fd00:97::/108", "fd00::/64")


class Dice:
    """Objects drawn from one seed."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def some(self, pool: Iterable[object], most: int) -> list:  # type: ignore[type-arg]  # of whatever the pool has
        held = list(pool)
        return self.random.sample(held, self.random.randint(0, min(most, len(held))))

    def key(self) -> ObjectKey:
        """Any object there may be."""
        kind = self.random.choices(list(Kind), (10, 10, 2, 1))[0]
        if kind == Kind.SERVICE:
            return ObjectKey(kind, *_name(self.random.randrange(_SERVICES)))
        if kind == Kind.ENDPOINT_SLICE:
            number = self.random.randrange(_SLICES)
            return ObjectKey(kind, _namespace(number), f"slice-{number}")
        return ObjectKey(kind, "", f"{'n' if kind == Kind.NODE else 'cidr-'}{self.random.randint(1, 3)}")

    def object(self, key: ObjectKey) -> Object:
        """Any object of this name."""
        if key.kind == Kind.SERVICE:
            return self.service(key)
        if key.kind == Kind.ENDPOINT_SLICE:
            return self.slice(key)
        if key.kind == Kind.NODE:
            return self.node(key.name)
        return ServiceCidr(key.name, tuple(sorted(self.some(_CIDRS, 3))))

    def families(self) -> list[int]:
        return self.random.choice(([4], [6], [4, 6], [6, 4]))

    def service(self, key: ObjectKey) -> Service:
        random = self.random
        kind = random.choice(list(ServiceType))
        balanced = kind == ServiceType.LOAD_BALANCER
        families = self.families()
        return Service(
            namespace=key.namespace,
            name=key.name,
            type=kind,
            cluster_ips=tuple(random.choice(_CLUSTER[family]) for family in families),
            ports=self._ports(kind),
            external_ips=tuple(sorted(self._outside(families, 2))) if random.random() < 0.3 else (),
            load_balancer_ingress=self._ingress(families) if balanced else (),
            load_balancer_source_ranges=tuple(sorted(self.some(_RANGES, 3))) if balanced else (),
            internal_traffic_policy=self._policy(),
            external_traffic_policy=self._policy(),
            session_affinity_seconds=random.choice((0, 0, 0, 30, 10800)),
            health_check_node_port=random.choice((0, 32000)) if balanced else 0,
        )

    def _ports(self, kind: ServiceType) -> tuple[ServicePort, ...]:
        random = self.random
        several = random.sample(_PORTS, random.choice((1, 1, 1, 2, 3)))
        drawn = list({port[0]: port for port in several}.values())  # names are unique, as the API has it
        numbers = random.sample((80, 443, 53, 5353, 8443), len(drawn))
        open_ = kind != ServiceType.CLUSTER_IP and random.random() < 0.9
        ports = random.sample(range(30000, 30008), len(drawn)) if open_ else [0] * len(drawn)
        return tuple(
            ServicePort(*names, number, node) for names, number, node in zip(drawn, numbers, ports, strict=True)
        )

    def _outside(self, families: list[int], most: int) -> list[bytes]:
        return self.some([address for family in families for address in _OUTSIDE[family]], most)

    def _ingress(self, families: list[int]) -> tuple[LoadBalancerIngress, ...]:
        modes = (IpMode.VIP, IpMode.VIP, IpMode.VIP, IpMode.PROXY)
        found = [LoadBalancerIngress(ip, self.random.choice(modes)) for ip in self._outside(families, 2)]
        return tuple(sorted(found, key=lambda ingress: (ingress.ip, ingress.ip_mode)))

    def _policy(self) -> TrafficPolicy:
        return self.random.choice((TrafficPolicy.CLUSTER, TrafficPolicy.CLUSTER, TrafficPolicy.LOCAL))

    def slice(self, key: ObjectKey) -> EndpointSlice:
        random = self.random
        family, hinted = random.choice((4, 6)), random.random() < 0.3
        most = random.choice((0, 2, 4, 9, 9, 33))
        ports = {(*names, random.choice((8080, 8080, 9090))) for names in random.sample(_PORTS, random.randint(1, 5))}
        return EndpointSlice(
            namespace=key.namespace,
            name=key.name,
            service=_name(random.randrange(_SERVICES // 2) * 2 + int(key.namespace == "b"))[1],
            family=family,
            ports=tuple(EndpointPort(*port) for port in sorted(ports)),
            endpoints=tuple(self.endpoint(address, hinted) for address in sorted(self.some(_PODS[family], most))),
        )

    def endpoint(self, address: bytes, hinted: bool) -> Endpoint:
        random = self.random
        zones, nodes = (("a", "b"), (HERE, "n2")) if hinted else ((), ())
        return Endpoint(
            address, random.choice(_CONDITIONS), random.choice(_NODES), random.choice(_ZONES),
            tuple(sorted(self.some(zones, 2))), tuple(sorted(self.some(nodes, 2))),
        )  # fmt: skip

    def changed(self, old: EndpointSlice) -> EndpointSlice:
        """One endpoint comes, goes or is another: what travels as a patch."""
        random, held = self.random, {endpoint.address: endpoint for endpoint in old.endpoints}
        address = random.choice(list(held)) if held and random.random() < 0.7 else random.choice(_PODS[old.family])
        if address in held and random.random() < 0.4:
            del held[address]
        else:
            held[address] = self.endpoint(address, random.random() < 0.3)
        return replace(old, endpoints=tuple(held[address] for address in sorted(held)))

    def node(self, name: str) -> Node:
        random = self.random
        addresses = tuple(random.choice(_OF_NODES[family]) for family in self.families())
        return Node(name, f"uid-{random.randint(1, 3)}", addresses, random.choice(_ZONES))


def _namespace(number: int) -> str:
    return "ab"[number % 2]


def _name(number: int) -> tuple[str, str]:
    return _namespace(number), f"service-{number}"
