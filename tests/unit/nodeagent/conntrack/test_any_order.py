"""Any order of changes, commits and sweeps: what is stale goes, nothing else does."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from deltaplane.forwarding import FrontendKind, ServiceForwarding, Target
from nodeagent.conntrack.cleaner import sweep
from nodeagent.conntrack.intent import Intents
from nodeagent.conntrack.places import Place
from nodeagent.errors import KernelUnavailable
from tests.fakes.conntrack import MemoryTable, Tracked
from tests.unit.nodeagent.conntrack.cases import NODE, addresses, entry, key, packed, place, service, target

BALANCER = place("198.18.0.1", 53)
E1, E2, E3 = (target(f"10.0.0.{number}") for number in (1, 2, 3))
SETS = st.sampled_from([None, (), (E1,), (E2,), (E1, E2), (E2, E3), (E1, E2, E3)])
CLIENTS = packed("203.0.113.7"), packed("203.0.113.200")
RANGES = st.sampled_from([(), ("203.0.113.0/24",), ("203.0.113.0/25",), ("203.0.113.128/25", "198.51.100.0/24")])
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("service"), st.tuples(st.sampled_from(["a", "b"]), SETS)),
        st.tuples(st.just("node"), st.integers(0, 2)),
        st.tuples(st.just("ranges"), st.tuples(st.sampled_from(["a", "b"]), RANGES)),
        st.tuples(st.sampled_from(["commit", "fail", "sweep", "break"]), st.none()),
    ),
    max_size=25,
)

Kept = tuple[Place, Target, bytes]  # a flow, and its client


class World:
    """Two Services, a node, and two clients of every frontend and endpoint that ever admitted them.

    Both Services have the same load balancer's address and port.
    """

    def __init__(self) -> None:
        self.intents = Intents()
        self.table = MemoryTable()
        self.services: dict[str, tuple[Target, ...] | None] = {"a": None, "b": None}
        self.ranges: dict[str, tuple[str, ...]] = {"a": (), "b": ()}
        self.addresses = 0
        self.ports = 0

    def places(self, name: str) -> list[Place]:
        number = ord(name)
        ports = [place(address, 30000 + number) for address in NODE[4][: self.addresses]]
        return [place(f"172.30.0.{number}", 53), *ports]

    def valid(self) -> set[Kept]:
        found = set()
        for name, serving in self.services.items():
            ends = {(at, who) for at in self.places(name) for who in serving or ()}
            found |= {(at, who, client) for at, who in ends for client in CLIENTS}
            guarded = {(BALANCER, who, client) for who in serving or () for client in CLIENTS}
            found |= {each for each in guarded if self.admits(name, each[2])}
        return found

    def admits(self, name: str, client: bytes) -> bool:
        networks = [ip_network(text) for text in self.ranges[name]]
        return not networks or any(ip_address(client) in network for network in networks)

    def present(self) -> set[Kept]:
        return {(entry.place, entry.source, entry.client[0]) for entry in self.table.entries}

    def send(self) -> None:
        """Clients send to all that is forwarded to them now."""
        for at, who, client in sorted(self.valid() - self.present()):
            self.ports += 1
            self.table.add(Tracked((client, self.ports), at, who))

    def move(self, what: str, value: object) -> None:
        getattr(self, f"_{what}")(value)
        self.send()

    def _service(self, value: tuple[str, tuple[Target, ...] | None]) -> None:
        name, serving = value
        self.services[name] = serving
        self.intents.want([self._forwarding(name)])

    def _ranges(self, value: tuple[str, tuple[str, ...]]) -> None:
        name, ranges = value
        self.ranges[name] = ranges
        self.intents.want([self._forwarding(name)])

    def _forwarding(self, name: str) -> ServiceForwarding:
        serving = self.services[name]
        if serving is None:
            return service(name=name)
        balancer = entry(FrontendKind.LOAD_BALANCER, 4, str(ip_address(BALANCER.address)), BALANCER.port, serving)
        return service(
            replace(balancer, source_ranges=self.ranges[name]),
            entry(FrontendKind.CLUSTER_IP, 4, f"172.30.0.{ord(name)}", 53, serving),
            entry(FrontendKind.NODE_PORT, 4, "", 30000 + ord(name), serving),
            name=name,
        )

    def _node(self, value: int) -> None:
        self.addresses = value
        self.intents.want([], addresses(4, number=value))

    def _commit(self, _: None) -> None:
        self.intents.commit()

    def _fail(self, _: None) -> None:
        self.intents.commit({key("a")})

    def _break(self, _: None) -> None:
        """The table does not answer."""
        self.table.broken = KernelUnavailable("not now")
        items = self.intents.take()
        if any(result.error for result in sweep(self.table, items)):
            self.intents.again(items)
        self.table.broken = None

    def _sweep(self, _: None) -> None:
        self.intents.commit()
        earlier, valid = self.present(), self.valid()
        assert not any(result.error for result in sweep(self.table, self.intents.take()))
        assert earlier & valid <= self.present()


@given(MOVES)
def test_in_any_order_the_sweep_takes_all_that_is_stale_and_nothing_else(moves: list[tuple[str, object]]) -> None:
    world = World()
    foreign = [Tracked((b"\1\2\3\4", n), place(f"203.0.113.{n}", 30000 + n), E1) for n in map(ord, "ab")]
    foreign += [entry._replace(place=place("172.30.0.97", 53), protocol=6) for entry in foreign]
    for what, value in [*moves, ("sweep", None)]:
        world.move(what, value)
    world.table.add(*foreign)
    world.move("sweep", None)
    assert world.present() == world.valid() | {(entry.place, entry.source, entry.client[0]) for entry in foreign}
