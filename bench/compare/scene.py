"""The cluster that all follow, and what is changed in it. Called by `main` and `scenarios`."""

from __future__ import annotations

import random
import tempfile
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.compare import bulk, crowd
from bench.compare.contenders import Contender, Proxy
from bench.compare.crowd import Addresses
from bench.packet import admit
from bench.probe import Prober, Watch
from tools.lab import fabric as fabrics
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import ControlPlane
from tools.lab.echo import EchoServers
from tools.lab.fabric import Topology
from tools.lab.manifests import Object, port, service

SLICES = "discovery.k8s.io/v1"
BIG, BIG_ENDPOINTS, SLICE = "big", 1_000, 100


@dataclass(frozen=True)
class Size:
    """How many Services, with how many endpoints each."""

    services: int
    endpoints: int

    def __str__(self) -> str:
        return f"{self.services}x{self.endpoints}"

    @property
    def title(self) -> str:
        return f"{self.services:,} x {self.endpoints}"


SIZES = (Size(100, 3), Size(1_000, 10), Size(10_000, 10), Size(44_000, 4), Size(5_000, 50))


class Scene:
    """The Services and their endpoints as they are now."""

    def __init__(self, api: ApiServer, size: Size) -> None:
        self.api, self.size = api, size
        self.addresses: list[str] = []
        self._random, self._new = random.Random(1), Addresses()
        zones = ([crowd.zone_of(number, place) for place in range(size.endpoints)] for number in range(size.services))
        self._behind = [[self._new.first(zone) for zone in row] for row in zones]
        self._clean = list(range(size.services))
        self._random.shuffle(self._clean)
        self._watched: deque[tuple[int, Watch]] = deque()  # Services that a listener is behind, and who waits for it
        self._big: list[list[Object]] = []

    def load(self) -> None:
        """Writes everything."""
        for node in crowd.far_nodes():
            self.api.admin.apply_node(node)
        wanted = [service(_name(number), [port(80, crowd.PORT, "http")]) for number in range(self.size.services)]
        self.addresses = [made["spec"]["clusterIP"] for made in bulk.create(self.api, wanted)]
        self._whole().write(self.api)

    def _whole(self, without: str = "") -> bulk.Transactions:
        every = ((number, [one for one in row if one["zone"] != without]) for number, row in enumerate(self._behind))
        return bulk.Transactions(crowd.stored(_name(number), row, _slice(number)) for number, row in every)

    # ------------------------------------------------------------ one change

    def watched_change(self, prober: Prober) -> Watch:
        """Replaces one endpoint of one Service by one that lets connections in. The time begins just before it."""
        while not self._clean:
            self._restore()
        number = self._clean.pop()
        since = self._replace(number, listening=True)
        watch = prober.watch(self.addresses[number], 80, since)
        self._watched.append((number, watch))
        return watch

    def change(self) -> None:
        """Replaces one endpoint of another Service, or the listener where it was seen."""
        if self._watched and self._watched[0][1].over.is_set():
            self._restore()
        elif self._clean:
            self._replace(self._random.choice(self._clean), listening=False)

    def pause(self) -> float:
        """Seconds between two changes that come alone: kube-proxy's limit of one sync per second holds up none."""
        return self._random.uniform(1.2, 2.0)

    def _restore(self) -> None:
        number, _ = self._watched.popleft()
        self._replace(number, listening=False)
        self._clean.insert(self._random.randrange(len(self._clean) + 1), number)

    def _replace(self, number: int, *, listening: bool) -> float:
        row = self._behind[number]
        at = [place for place, one in enumerate(row) if one["addresses"][0] in _OPEN]
        place = at[0] if at else self._random.randrange(len(row))
        zone = row[place]["zone"]
        row[place] = self._new.listening(zone) if listening else self._new.replacement(zone)
        since = time.perf_counter()
        self.api.admin.patch("EndpointSlice", _slice(number), {"endpoints": row}, api=SLICES)
        return since

    # ------------------------------------------------------------ a zone

    def zone_lost(self) -> bulk.Transactions:
        """A third of all endpoints goes: `write` what this returns."""
        return self._whole(crowd.LOST)

    def zone_back(self) -> bulk.Transactions:
        """They come back."""
        return self._whole()

    # ------------------------------------------------------------ a Service with many endpoints

    @contextmanager
    def big_service(self) -> Iterator[None]:
        """It is there meanwhile."""
        per = range(BIG_ENDPOINTS // SLICE)
        self._big = [[self._new.replacement(crowd.zone_of(0, place)) for place in range(SLICE)] for _ in per]
        made = self.api.admin.create(service(BIG, [port(80, crowd.PORT, "http")]))
        slices = [crowd.stored(BIG, row, f"{BIG}-{number}") for number, row in enumerate(self._big)]
        bulk.Transactions(slices).write(self.api)
        try:
            yield
        finally:
            self.api.admin.delete(made)
            for thing in slices:
                self.api.admin.delete(thing)

    def big_change(self) -> float:
        """Replaces one of its endpoints; returns when the write began."""
        which = self._random.randrange(len(self._big))
        row = self._big[which]
        place = self._random.randrange(len(row))
        row[place] = self._new.replacement(row[place]["zone"])
        since = time.perf_counter()
        self.api.admin.patch("EndpointSlice", f"{BIG}-{which}", {"endpoints": row}, api=SLICES)
        return since


_OPEN = frozenset(crowd.listeners())


def _name(number: int) -> str:
    return f"service-{number}"


def _slice(number: int) -> str:
    return f"service-{number}-v4"


@dataclass(frozen=True)
class Stage:
    """Everything that runs but the proxies."""

    scene: Scene
    proxies: list[Proxy]
    seconds: float  # that loading the objects took


@contextmanager
def staged(size: Size, contenders: list[Contender]) -> Iterator[Stage]:
    """A node per contender, the API server with all objects, the control plane (not started)."""
    with ExitStack() as stack:
        fabric = stack.enter_context(fabrics.running(Topology(len(contenders), servers=0, clients=1, outside=0)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deltaplane-compare-")))
        servers = EchoServers()
        stack.callback(servers.close)
        crowd.join(fabric, servers)
        api = ApiServer(fabric.apiserver, folder)
        stack.callback(api.close)
        api.start()
        account = admit(api, fabric)
        scene = Scene(api, size)
        began = time.perf_counter()
        scene.load()
        took = time.perf_counter() - began
        flags = ("--source=kubernetes", f"--kubeconfig={account}")
        controlplane = ControlPlane(fabric.controlplane, folder, *flags)
        stack.callback(controlplane.close)
        pairs = zip(contenders, fabric.nodes, strict=True)
        proxies = [Proxy(who, node, api, controlplane, folder) for who, node in pairs]
        for proxy in proxies:
            stack.callback(proxy.stop)
        yield Stage(scene, proxies, took)
