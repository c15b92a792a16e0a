"""Endpoints whose Pod lacks nothing but this project's gate count as ready, so that nodes can be told of them.

A Pod with a gate that is false is not Ready, so its endpoint is not, so no node would send to it, and nothing could
ever be acknowledged. `EarlyEndpoints` stands between the source and the store of each replica: such an endpoint is
streamed as ready from when its kubelet says that all containers are, to when its slice says so itself. Kubernetes'
objects stay as they are; nothing else than this proxy sees the endpoint early.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import cast

from msgspec.structs import replace

from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.gate.pods import POD, GatedPod
from controlplane.inspection.holders import Holders
from deltaplane.logs import event
from deltaplane.model import Conditions, Endpoint, EndpointSlice, Kind, ObjectKey, ServiceName

log = logging.getLogger(__name__)

Spot = tuple[str, bytes]  # namespace and packed address
READY = int(Conditions.READY | Conditions.SERVING)
_SAID = Conditions.READY | Conditions.TERMINATING  # with one of them, an endpoint stays as its slice says


class EarlyEndpoints:
    """A `facts.Sink` of the stream's kinds and of `pods.POD`. `moved` is called when Pods or slices have changed.

    `waiting`: Pods whose gate is to be set, by name.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.waiting: dict[ServiceName, GatedPod] = {}
        self.moved: Callable[[], None] = lambda: None
        self._cluster = cluster
        self._holders = Holders()
        self._pods: dict[ServiceName, GatedPod] = {}
        self._may_be: dict[Spot, GatedPod] = {}  # Pods that are early, or Ready
        # Endpoints that are ready by this alone, by slice; with the conditions that the slice says.
        self._made: dict[ObjectKey, dict[bytes, int]] = {}
        self._listed = self._held_back = False

    # ------------------------------------------------------------ facts.Sink

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen, in order."""
        passed: list[Fact] = []
        touched: set[Spot] = set()
        moment = 0
        for fact in facts:
            if fact.key.kind == POD:
                touched |= self._learn(fact)
                moment = max(moment, fact.event_unix_nano)
            else:
                passed.append(self._seen(fact))
        passed += self._again(touched, moment)
        if passed:
            self._cluster.update(passed)
        self.moved()

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind."""
        listed = list(facts)
        if kind != POD:
            self._cluster.replace(kind, map(self._seen, listed), resource_version)
            self.moved()
            return
        names = {(fact.key.namespace, fact.key.name) for fact in listed}
        gone = [Fact(ObjectKey(POD, *name), None) for name in self._pods if name not in names]
        self.update([*gone, *listed])

    def synced(self, kind: Kind) -> None:
        """Slices are complete once Pods are listed too: a replica that starts would take early endpoints away."""
        if kind == POD:
            self.let_go()
        elif kind == Kind.ENDPOINT_SLICE and not self._listed:
            self._held_back = True
        else:
            self._cluster.synced(kind)

    def let_go(self, why: str = "") -> None:
        """Slices count as complete from when they are; `why`: though no Pods are listed."""
        if why and not self._listed:
            event(log, logging.ERROR, "serves without the Pods' readiness gates", reason=why)
        self._listed = True
        if self._held_back:
            self._held_back = False
            self._cluster.synced(Kind.ENDPOINT_SLICE)

    # ------------------------------------------------------------ slices

    def _seen(self, fact: Fact) -> Fact:
        """The fact of a slice, with what is ready early."""
        if fact.key.kind != Kind.ENDPOINT_SLICE:
            return fact
        if not isinstance(fact.object, EndpointSlice):
            self._made.pop(fact.key, None)
            return fact
        return replace(fact, object=self._readied(fact.object, fresh=True)) if self._may_be else fact

    def _readied(self, piece: EndpointSlice, *, fresh: bool) -> EndpointSlice:
        """The slice with endpoints as they are now; notes which are ready by this alone. `fresh`: as the API has it."""
        before = self._made.pop(piece.key, {})
        shown = {} if fresh else before
        made = {}
        for each in piece.endpoints:
            said = shown.get(each.address, each.conditions)
            if not said & _SAID and self._is_early(piece, each, kept=each.address in before):
                made[each.address] = said
        if made:
            self._made[piece.key] = made
        if made == shown:
            return piece
        return replace(piece, endpoints=tuple(_as(each, shown, made) for each in piece.endpoints))

    def _is_early(self, piece: EndpointSlice, endpoint: Endpoint, *, kept: bool) -> bool:
        """`kept`: it was before; then it stays until its slice says that it is ready, as its Pod is."""
        pod = self._may_be.get((piece.namespace, endpoint.address))
        return pod is not None and endpoint.node in {"", pod.node} and (pod.early or kept)

    # ------------------------------------------------------------ Pods

    def _learn(self, fact: Fact) -> set[Spot]:
        """Takes a Pod; gives the places that are ready early, or no longer."""
        name, value = (fact.key.namespace, fact.key.name), cast(object, fact.object)
        new = value if isinstance(value, GatedPod) else None
        old = self._pods.pop(name, None)
        self.waiting.pop(name, None)
        if new is not None:
            self._pods[name] = new
            if new.early and not new.programmed:
                self.waiting[name] = new
        before, now = _spots(old), _spots(new)
        for spot in before - now:
            if self._may_be.get(spot) == old:
                del self._may_be[spot]
        self._may_be.update(dict.fromkeys(now, new) if new is not None else {})
        return before | now if old != new else set()

    def _again(self, touched: set[Spot], moment: int) -> Iterator[Fact]:
        """The facts of slices that are others because of these places."""
        for piece in self._with(touched) if touched else ():
            now = self._readied(piece, fresh=False)
            if now is not piece:
                seen = self._cluster.store.seen(piece.key)
                yield Fact(piece.key, now, str(seen) if seen >= 0 else "", moment)

    def _with(self, spots: set[Spot]) -> list[EndpointSlice]:
        """The slices that may have one of these places."""
        cluster = self._cluster
        if not cluster.ready:  # there is no log yet that tells of changes
            found = (cluster.store.get(key) for key in cluster.store.keys(Kind.ENDPOINT_SLICE))
            return [each for each in found if isinstance(each, EndpointSlice) and not spots.isdisjoint(_places(each))]
        names = {name for space, at in spots for name in self._holders.at(cluster, at) if name[0] == space}
        return [piece for name in sorted(names) for piece in self._holders.slices_of(cluster, name)]

    def slices_of(self, pod: GatedPod) -> list[EndpointSlice]:
        """The slices in which one of its addresses is ready, as they are streamed."""
        found = self._with({(pod.namespace, address) for address in pod.addresses})
        return [each for each in found if any(_takes(endpoint, pod) for endpoint in each.endpoints)]


def _as(endpoint: Endpoint, before: dict[bytes, int], made: dict[bytes, int]) -> Endpoint:
    if (endpoint.address in made) == (endpoint.address in before):
        return endpoint
    return replace(endpoint, conditions=READY if endpoint.address in made else before[endpoint.address])


def _takes(endpoint: Endpoint, pod: GatedPod) -> bool:
    return endpoint.address in pod.addresses and bool(endpoint.conditions & Conditions.READY)


def _spots(pod: GatedPod | None) -> set[Spot]:
    if pod is None or not (pod.early or pod.ready):
        return set()
    return {(pod.namespace, address) for address in pod.addresses}


def _places(piece: EndpointSlice) -> Iterator[Spot]:
    return ((piece.namespace, endpoint.address) for endpoint in piece.endpoints)
