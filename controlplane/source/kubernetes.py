"""The Kubernetes API as the source of objects: one reflector per kind, in one task group."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from random import Random

from controlplane.facts import Following, Reporter, Sink
from controlplane.notices import Notice
from controlplane.source.api import Api, connect
from controlplane.source.decode import form_beside
from controlplane.source.events import Events
from controlplane.source.identity import Identity
from controlplane.source.limits import Limits
from controlplane.source.pulse import Pulse
from controlplane.source.reflector import Reflector
from controlplane.source.resource import Resource
from controlplane.source.translate import HEADLESS
from controlplane.source.translate_service import PROXY_NAME
from deltaplane.model import Kind
from deltaplane.supervise import Job, together

# The server omits what kube-proxy omits (A12, A13). If a label is added later, a DELETED event arrives.
RESOURCES = {
    Kind.SERVICE: Resource("", "v1", "services", f"!{PROXY_NAME}"),
    Kind.ENDPOINT_SLICE: Resource("discovery.k8s.io", "v1", "endpointslices", f"!{HEADLESS}"),
    Kind.NODE: Resource("", "v1", "nodes"),
    Kind.SERVICE_CIDR: Resource("networking.k8s.io", "v1", "servicecidrs", optional=True),  # since 1.33 (KEP-1880)
}


def resources(selector: str = "") -> dict[Kind, Resource]:
    """What is followed. `selector`: of the Services that are served; their slices have the same labels."""
    if not selector:
        return RESOURCES
    slices = replace(RESOURCES[Kind.ENDPOINT_SLICE], selector=f"!{HEADLESS},{selector}")
    return {**RESOURCES, Kind.SERVICE: replace(RESOURCES[Kind.SERVICE], selector=selector), Kind.ENDPOINT_SLICE: slices}


class KubernetesSource:
    """`run` follows every kind of `RESOURCES` until cancelled. `failures` has the kinds that cannot be followed now.

    `selector`: of the Services to serve, instead of those that name no proxy.
    Without a kubeconfig it uses the Pod's ServiceAccount. `run` raises `SourceError` if the configuration is unusable.
    If a server is unreachable or refuses, it logs that, retries for ever, and keeps the known state.
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
        selector: str = "",
    ) -> None:
        self._selector, self._resources = selector, resources(selector)
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
        """Writes the notice as an Event (notices.Notices)."""
        self._events.tell(notice)

    @property
    def following(self) -> list[Following]:
        """How each kind is followed; empty before the API server's address is known."""
        return [one.following for one in self._reflectors.values()]

    @property
    def failures(self) -> dict[Kind, str]:
        """The last error of each kind that cannot be followed."""
        return {kind: one.failure for kind, one in self._reflectors.items() if one.failure}

    async def run(self) -> None:
        api = await connect(self._kubeconfig)
        api.requests = self.requests
        try:
            pulse = Pulse(api, self._resources[Kind.SERVICE], self._limits or Limits())
            self._reflectors = {kind: self._reflector(kind, api, pulse) for kind in self._resources}
            reflectors = (Job(f"reflector {kind.name}", one.run()) for kind, one in self._reflectors.items())
            identity = Identity(api, self._identify, self._sleep)
            await identity.ask()  # before there are objects to serve
            beside = Job("identity", identity.run()), Job("Events", self._events.run(api)), Job("pulse", pulse.run())
            await together(*beside, *reflectors)
        finally:
            await api.close()

    def _reflector(self, kind: Kind, api: Api, pulse: Pulse) -> Reflector:
        return Reflector(
            kind,
            self._resources[kind],
            api,
            self._sink,
            self._reporter,
            limits=self._limits,
            pulse=pulse,
            random=self._random,
            sleep=self._sleep,
            form=form_beside(kind) if self._selector else None,
        )
