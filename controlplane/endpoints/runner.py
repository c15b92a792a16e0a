"""The endpoints controllers on the Kubernetes API: while this replica holds the Lease, they watch and write.

Each time the Lease is won they begin from a list, and know nothing from before. Imported only if `--controllers` asks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Sequence

from msgspec.structs import replace

from controlplane.endpoints.controller import Controller
from controlplane.endpoints.core_endpoints import MANAGED_BY as ENDPOINTS_MANAGED_BY
from controlplane.endpoints.core_endpoints import MANAGER as ENDPOINTS_MANAGER
from controlplane.endpoints.feeds import Feeds
from controlplane.endpoints.kinds import Watched, form, kind_of
from controlplane.endpoints.known import Known
from controlplane.endpoints.makers import EndpointsMaker, Maker, SliceMaker
from controlplane.endpoints.names import ENDPOINTS, SLICES
from controlplane.endpoints.objects import Endpoints, EndpointSlice
from controlplane.endpoints.queue import Queue
from controlplane.endpoints.slicing import MANAGED_BY, MANAGER
from controlplane.endpoints.writer import LIMIT, Writer
from controlplane.facts import Following, Reporter
from controlplane.lease import Lease, home, me
from controlplane.source.api import Api
from controlplane.source.connection import Connection
from controlplane.source.reflector import Reflector
from controlplane.source.resource import ApiError, Resource
from controlplane.term import Term
from deltaplane.logs import event
from deltaplane.supervise import Job, together

log = logging.getLogger(__name__)

LEASE = "deltaplane-endpoints"
UPSTREAM = "endpointslice-controller.k8s.io"
DISCOVERY = "discovery.k8s.io"
RESOURCES = {
    Watched.SERVICE: Resource("", "v1", "services"),
    Watched.POD: Resource("", "v1", "pods"),
    Watched.NODE: Resource("", "v1", "nodes"),
    Watched.ENDPOINT_SLICE: Resource(DISCOVERY, "v1", "endpointslices", f"{MANAGED_BY}={MANAGER}"),
    Watched.ENDPOINTS: Resource("", "v1", "endpoints", f"{ENDPOINTS_MANAGED_BY}={ENDPOINTS_MANAGER}"),
}


class Runner:
    """`run` until cancelled. The counters go on over losses of the Lease; writes are by (resource, verb, result)."""

    def __init__(
        self, kubeconfig: str | None, names: Sequence[str], requests: Counter[tuple[str, str, str]], reporter: Reporter
    ) -> None:
        self.writes: Counter[tuple[str, str, str]] = Counter()
        self.syncs: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by controller, of finished terms
        self.controllers: list[Controller] = []
        self.lease: Lease | None = None
        self._kubeconfig, self.names = kubeconfig, names
        self._requests, self._reporter = requests, reporter
        self._reflectors: list[Reflector] = []

    @property
    def following(self) -> list[Following]:
        """How each kind is followed; empty while another replica does the work."""
        found = (one.following for one in self._reflectors)
        return [replace(one, resource=f"{one.resource} for endpoints") for one in found]  # not those of the stream

    async def run(self) -> None:
        """Takes part in the election, and works while elected. Raises `SourceError` for an unusable configuration."""
        connection = Connection(self._kubeconfig, self._requests)
        try:
            api = await connection.api()
            self.lease = lease = Lease(connection.api, await asyncio.to_thread(home), LEASE, me())
            await Term(lease).run(lambda: self._lead(api, lease))
        finally:
            await connection.close()

    async def _lead(self, api: Api, lease: Lease) -> None:
        known = Known()
        makers = {name: self._maker(name, known, api, lease) for name in self.names}
        self.controllers = [Controller(name, maker, Queue(), self.syncs) for name, maker in makers.items()]
        kinds = self._kinds()
        feeds = Feeds(known, self.controllers, kinds)
        self._reflectors = [
            Reflector(kind_of(kind), RESOURCES[kind], api, feeds, self._reporter, form=form(kind)) for kind in kinds
        ]
        jobs = [Job(f"reflector {kind.name}", one.run()) for kind, one in zip(kinds, self._reflectors, strict=True)]
        jobs += [Job(f"controller {one.name}", one.run()) for one in self.controllers]
        await self._warn(api)
        try:
            await together(*jobs)
        finally:
            for one in self.controllers:
                self.seconds[one.name] += one.seconds
            self.controllers, self._reflectors = [], []

    def _kinds(self) -> list[Watched]:
        own = {SLICES: Watched.ENDPOINT_SLICE, ENDPOINTS: Watched.ENDPOINTS}
        return [Watched.SERVICE, Watched.POD, Watched.NODE, *(own[name] for name in self.names)]

    def _maker(self, name: str, known: Known, api: Api, lease: Lease) -> Maker:
        def may() -> bool:
            return lease.valid

        if name == SLICES:
            return SliceMaker(known, Writer(api, DISCOVERY, "endpointslices", EndpointSlice, self.writes, may=may))
        return EndpointsMaker(known, Writer(api, "", "endpoints", Endpoints, self.writes, may=may))

    async def _warn(self, api: Api) -> None:
        """Names what a kube-controller-manager makes or has left: its slices would count beside ours. Never fatal."""
        query = {"labelSelector": f"{MANAGED_BY}={UPSTREAM}", "limit": "1"}
        try:
            body = await api.fetch(Resource(DISCOVERY, "v1", "endpointslices"), query, LIMIT)
        except ApiError:
            return  # the reflectors say what is wrong
        if b'"addressType"' in body and SLICES in self.names:
            event(
                log, logging.WARNING, "slices of kube-controller-manager are there too: switch its controller off and "
                "delete them (docs/operating.md)", label=query["labelSelector"],
            )  # fmt: skip
