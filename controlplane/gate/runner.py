"""The readiness gate on the Kubernetes API: every replica follows Pods; the one that holds the Lease sets gates."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from functools import partial

from controlplane.facts import Following, Reporter
from controlplane.gate.early import EarlyEndpoints
from controlplane.gate.figures import GateFigures
from controlplane.gate.flags import GateSettings
from controlplane.gate.pods import FORM, POD
from controlplane.gate.setter import Setter, Wait
from controlplane.gate.writer import Writer
from controlplane.lease import Lease, home, me
from controlplane.source.api import Api
from controlplane.source.connection import Connection
from controlplane.source.limits import Limits
from controlplane.source.pulse import Pulse
from controlplane.source.reflector import Reflector
from controlplane.source.resource import Resource
from controlplane.term import Term
from deltaplane.model import ObjectKey
from deltaplane.supervise import Job, together

LEASE = "deltaplane-readiness-gate"
PATIENCE = 20.0  # seconds that agents wait for the first list of Pods


class Gate:
    """`run` until cancelled. `early` stands between the source and the cluster; `wait` is the server's WaitApplied.

    `hash_of`: of an object as this replica has it. `requests`: the source's counter.
    """

    def __init__(
        self,
        kubeconfig: str | None,
        settings: GateSettings,
        early: EarlyEndpoints,
        *,
        hash_of: Callable[[ObjectKey], int],
        wait: Wait,
        requests: Counter[tuple[str, str, str]],
        reporter: Reporter,
    ) -> None:
        self.lease: Lease | None = None
        self._kubeconfig, self._settings, self._early = kubeconfig, settings, early
        self._hash_of, self._wait, self._requests, self._reporter = hash_of, wait, requests, reporter
        self._reflector: Reflector | None = None
        self.figures = GateFigures(lambda: len(early.waiting), time.monotonic)

    @property
    def following(self) -> list[Following]:
        """How Pods are followed."""
        return [self._reflector.following] if self._reflector is not None else []

    async def run(self) -> None:
        """Raises `SourceError` for an unusable configuration."""
        connection = Connection(self._kubeconfig, self._requests)
        try:
            await self._follow(connection)
        finally:
            await connection.close()

    async def _follow(self, connection: Connection) -> None:
        api = await connection.api()
        resource = Resource("", "v1", "pods", self._settings.selector)
        pulse = Pulse(api, resource, Limits())
        self._reflector = Reflector(POD, resource, api, self._early, self._reporter, form=FORM, pulse=pulse)
        self.lease = lease = Lease(connection.api, await asyncio.to_thread(home), LEASE, me())
        await together(
            Job("reflector of gated Pods", self._reflector.run()),
            Job("pulse of gated Pods", pulse.run()),
            Job("gated Pods late", self._late(self._reflector)),
            Job("readiness gate", Term(lease).run(partial(self._lead, api, lease))),
        )

    async def _late(self, reflector: Reflector) -> None:
        await asyncio.sleep(PATIENCE)
        self._early.let_go(reflector.failure or "no list of Pods yet")
        await asyncio.Event().wait()

    async def _lead(self, api: Api, lease: Lease) -> None:
        settings, writer = self._settings, Writer(api, self.figures, may=lambda: lease.valid)
        setter = Setter(self._early, self._wait, self._hash_of, writer, bound=settings.bound, percent=settings.percent)
        self.figures.since, self.figures.left_out = setter.since, setter.left_out
        try:
            await setter.run()
        finally:
            self.figures.over()
