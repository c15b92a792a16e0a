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
from controlplane.endpoints.names import ENDPOINTS, SLICE_MANAGER, SLICES, UPSTREAM
from controlplane.endpoints.objects import Endpoints, EndpointSlice
from controlplane.endpoints.queue import Queue
from controlplane.endpoints.slicing import MANAGED_BY
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
DISCOVERY = "discovery.k8s.io"
OTHERS = {
    UPSTREAM: "slices of kube-controller-manager are there too: switch its controller off and delete them "
    "(docs/operating.md)",
    SLICE_MANAGER: "slices that were made without --endpointslice-manager are there too: delete them "
    "(docs/operating.md)",
}


def resource(kind: Watched, manager: str) -> Resource:
    """What is followed; of the slices those of this manager."""
    if kind is Watched.ENDPOINT_SLICE:
        return Resource(DISCOVERY, "v1", "endpointslices", f"{MANAGED_BY}={manager}")
    if kind is Watched.ENDPOINTS:
        return Resource("", "v1", "endpoints", f"{ENDPOINTS_MANAGED_BY}={ENDPOINTS_MANAGER}")
    return Resource("", "v1", {Watched.SERVICE: "services", Watched.POD: "pods", Watched.NODE: "nodes"}[kind])


class Runner:
    """`run` until cancelled. The counters go on over losses of the Lease; writes are by (resource, verb, result).

    `manager`: whose slices are made and changed, by their label.
    """

    def __init__(
        self, kubeconfig: str | None, names: Sequence[str], requests: Counter[tuple[str, str, str]],
        reporter: Reporter, manager: str = SLICE_MANAGER,
    ) -> None:  # fmt: skip
        self.writes: Counter[tuple[str, str, str]] = Counter()
        self.syncs: Counter[tuple[str, str]] = Counter()
        self.seconds: defaultdict[str, float] = defaultdict(float)  # by controller, of finished terms
        self.controllers: list[Controller] = []
        self.lease: Lease | None = None
        self._kubeconfig, self.names, self._manager = kubeconfig, names, manager
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
        known = Known(manager=self._manager)
        makers = {name: self._maker(name, known, api, lease) for name in self.names}
        self.controllers = [Controller(name, maker, Queue(), self.syncs) for name, maker in makers.items()]
        kinds = self._kinds()
        feeds = Feeds(known, self.controllers, kinds)
        self._reflectors = [
            Reflector(kind_of(kind), resource(kind, self._manager), api, feeds, self._reporter, form=form(kind))
            for kind in kinds
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
        """Names what a kube-controller-manager makes, or we made by another name: it would count beside ours.

        Never fatal.
        """
        others = [name for name in (UPSTREAM, SLICE_MANAGER) if name != self._manager and SLICES in self.names]
        for name in others:
            query = {"labelSelector": f"{MANAGED_BY}={name}", "limit": "1"}
            try:
                body = await api.fetch(Resource(DISCOVERY, "v1", "endpointslices"), query, LIMIT)
            except ApiError:
                return  # the reflectors say what is wrong
            if b'"addressType"' in body:
                event(log, logging.WARNING, OTHERS[name], label=query["labelSelector"])
