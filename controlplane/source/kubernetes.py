"""The Kubernetes API as the source of objects: one reflector per kind, in one task group."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random

from controlplane.facts import Following, Reporter, Sink
from controlplane.notices import Notice
from controlplane.source.api import Api, Resource, connect
from controlplane.source.events import Events
from controlplane.source.identity import Identity
from controlplane.source.limits import Limits
from controlplane.source.reflector import Reflector
from controlplane.source.translate import HEADLESS
from controlplane.source.translate_service import PROXY_NAME
from deltaplane.model import Kind
from deltaplane.supervise import Job, together

# The server leaves out what kube-proxy leaves out (A12, A13). A label that is added later arrives as a DELETED event.
RESOURCES = {
    Kind.SERVICE: Resource("", "v1", "services", f"!{PROXY_NAME}"),
    Kind.ENDPOINT_SLICE: Resource("discovery.k8s.io", "v1", "endpointslices", f"!{HEADLESS}"),
    Kind.NODE: Resource("", "v1", "nodes"),
    Kind.SERVICE_CIDR: Resource("networking.k8s.io", "v1", "servicecidrs", optional=True),  # since 1.33 (KEP-1880)
}


class KubernetesSource:
    """`run` follows every kind of `RESOURCES` until cancelled; `failures` says which cannot be followed now.

    Without a kubeconfig the Pod's ServiceAccount is used. An unusable configuration raises `SourceError` from `run`;
    a server that is away, or refuses, is logged and tried again for ever: what was learnt stays.
    """

    def __init__(
        self,
        kubeconfig: str | None,
        sink: Sink,
        reporter: Reporter,
        *,
        limits: Limits | None = None,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        identify: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._kubeconfig = kubeconfig
        self._identify = identify
        self._sink = sink
        self._reporter = reporter
        self._limits = limits
        self._random = random
        self._sleep = sleep
        self._reflectors: dict[Kind, Reflector] = {}
        self._events = Events()
        self.requests: Counter[tuple[str, str, str]] = Counter()  # (verb, resource, status or "error")

    def tell(self, notice: Notice) -> None:
        """Writes it as an Event (notices.Notices)."""
        self._events.tell(notice)

    @property
    def following(self) -> list[Following]:
        """How each kind is followed; nothing before the API server's address is known."""
        return [one.following for one in self._reflectors.values()]

    @property
    def failures(self) -> dict[Kind, str]:
        """The last error per kind that cannot be followed; empty when all is well."""
        return {kind: one.failure for kind, one in self._reflectors.items() if one.failure}

    async def run(self) -> None:
        api = await connect(self._kubeconfig)
        api.requests = self.requests
        try:
            self._reflectors = {kind: self._reflector(kind, api) for kind in RESOURCES}
            reflectors = (Job(f"reflector {kind.name}", one.run()) for kind, one in self._reflectors.items())
            identity = Identity(api, self._identify, self._sleep)
            await identity.ask()  # before there is anything to serve
            await together(Job("identity", identity.run()), Job("Events", self._events.run(api)), *reflectors)
        finally:
            await api.close()

    def _reflector(self, kind: Kind, api: Api) -> Reflector:
        return Reflector(
            kind,
            RESOURCES[kind],
            api,
            self._sink,
            self._reporter,
            limits=self._limits,
            random=self._random,
            sleep=self._sleep,
        )
