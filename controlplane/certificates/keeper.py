"""Keeps the CAs and this replica's certificate as `plan` decides: looks, serves, writes, again and again.

Wired by `main`. While nothing is to be changed a look is two requests and writes nothing. Without the API server what
was seen last counts, and the replica goes on signing its own certificates.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import uniform

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from controlplane.certificates import authority, plan, stored
from controlplane.certificates.objects import Lost, Objects
from controlplane.certificates.plan import Decision, Memory
from controlplane.certificates.served import Served
from controlplane.certificates.values import Authority, Leaf, Seen, Times
from controlplane.lease import Lease
from controlplane.source.resource import ApiError
from deltaplane.logs import event
from deltaplane.once import Once

log = logging.getLogger(__name__)

FIRST = 1.0
NOTHING = (stored.NO_AUTHORITY, stored.NO_ROOT)
ROUNDS = 6  # of looking and writing in one turn


class Keeper(Collector):
    """`run` keeps them until cancelled. Raises `SourceError` where the way to the API server cannot be used."""

    def __init__(
        self,
        objects: Objects,
        lease: Lease,
        served: Served,
        names: Sequence[str],
        times: Times,
        *,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects, self.lease, self._served = objects, lease, served
        self._names, self._times = names, times
        self._now, self._monotonic = now, monotonic
        self._secret: stored.Object | None = None
        self._bundle: stored.Object | None = None
        self._seen = Seen()
        self._memory = Memory()
        self._leaf: Leaf | None = None
        self._missed: float | None = None
        self._said = Once[str]()
        self.writes = Counter[tuple[str, str]]()  # by object and outcome

    async def run(self) -> None:
        try:
            while True:
                await self.turn()
                await asyncio.sleep(self._pause() * uniform(0.7, 1.3))
        finally:
            await self._objects.close()

    def _pause(self) -> float:
        """Seconds until the next look: sooner while there is no certificate, which another replica may bring about."""
        return self._times.look if self._leaf is not None else min(FIRST, self._times.look)

    async def turn(self) -> None:
        """Looks, and writes what is to be written, until there is nothing more."""
        try:
            await self._rounds()
        except ApiError as error:
            self._serve()
            self._fault("the API server", str(error))
        else:
            self._over("the API server")

    async def _rounds(self) -> None:
        try:
            for _ in range(ROUNDS):
                await self._look()
                self._serve()
                decision = plan.decide(self._seen, self._memory, self._times, self._now())
                if not (decision.write_secret or decision.write_bundle):
                    return
                if not (self.lease.valid or await self.lease.take()):
                    return
                await self._write(decision)
        finally:
            await self.lease.leave()

    # ------------------------------------------------------------ looking

    async def _look(self) -> None:
        secret, bundle = await asyncio.gather(self._objects.get(stored.SECRET), self._objects.get(stored.CONFIG_MAP))
        whole = self._seen.secret_whole and self._seen.bundle_whole and self._memory.authorities
        if whole and (secret, bundle) == (self._secret, self._bundle):
            return
        self._secret, self._bundle = secret, bundle
        authorities, wrong = stored.secret(secret)
        believed, amiss = stored.bundle(bundle)
        self._seen = Seen(authorities, not wrong, stored.renewal(secret), believed, not amiss)
        known = plan.known(self._seen, self._memory)
        self._tell([text for text in (*wrong, *amiss) if not self._first_start(text)])
        self._memory = Memory(known, self._memory.signer, self._missing(known))

    def _first_start(self, fault: str) -> bool:
        """Whether there is nothing yet because there was nothing before."""
        return fault in NOTHING and self._leaf is None and not self._seen.bundle.roots

    def _missing(self, known: tuple[Authority, ...]) -> float:
        if known:
            self._missed = None
            return 0.0
        self._missed = self._monotonic() if self._missed is None else self._missed
        return self._monotonic() - self._missed

    # ------------------------------------------------------------ serving

    def _serve(self) -> None:
        now = self._now()
        signer = plan.signer(self._seen, self._memory, self._times, now)
        if signer is None or not plan.leaf_due(self._leaf, signer, now):
            return
        leaf = authority.sign(signer, self._names, *plan.leaf_times(signer, self._times, now))
        changed = self._leaf is None or self._leaf.signer != leaf.signer
        self._leaf = leaf
        self._memory = Memory(self._memory.authorities, signer, self._memory.missed)
        self._served.serve(leaf)
        event(
            log, logging.INFO, "serves a certificate of its own", authority=signer.name[:12], until=_date(leaf.ends),
            another_authority=changed, names=",".join(self._names),
        )  # fmt: skip

    # ------------------------------------------------------------ writing

    async def _write(self, decision: Decision) -> None:
        """One object; the next round sees what came of it."""
        if decision.write_secret:
            made = (self._make(),) if decision.make else ()
            name, thing = (
                stored.SECRET,
                stored.with_authorities(self._secret, (*decision.authorities, *made), self._objects.namespace),
            )
        else:
            name, thing = stored.CONFIG_MAP, stored.with_bundle(self._bundle, decision.bundle, self._objects.namespace)
        await self._put(name, thing)

    def _make(self) -> Authority:
        now = self._now()
        return authority.make(now - self._times.skew, now + self._times.authority)

    async def _put(self, name: str, thing: stored.Object) -> None:
        try:
            await self._objects.write(name, thing)
        except Lost:
            self.writes[name, "conflict"] += 1
            return
        except ApiError:
            self.writes[name, "failed"] += 1
            raise
        self.writes[name, "written"] += 1
        event(log, logging.INFO, "certificates: written", object=name)

    # ------------------------------------------------------------ telling

    def _tell(self, faults: Sequence[str]) -> None:
        for text in faults:
            self._fault(text, text)
        for gone in [key for key in self._said if key != "the API server" and key not in faults]:
            self._over(gone)

    def _fault(self, key: str, text: str) -> None:
        if self._said.note(key, text):
            self._served.faults += 1
            event(log, logging.WARNING, "certificates are not as they should be", reason=text)
        self._served.fault = text

    def _over(self, key: str) -> None:
        if self._said.clear(key):
            event(log, logging.INFO, "certificates: over", what=key)
        self._served.fault = self._said.text(next(iter(self._said))) if len(self._said) else ""

    def collect(self) -> Iterator[Metric]:
        text = "Writes of the control plane's own CAs, by object and outcome."
        writes = CounterMetricFamily("deltaplane_certificate_writes", text, labels=["object", "outcome"])
        for labels, number in sorted(self.writes.items()):
            writes.add_metric(labels, number)
        yield writes
        text = "When the newest of the control plane's own CAs ends, in Unix seconds."
        ends = max((one.ends for one in self._memory.authorities), default=0.0)
        yield GaugeMetricFamily("deltaplane_certificate_authority_end_timestamp_seconds", text, value=ends)


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
