"""The endpoints controller of a folder of manifests: slices made in memory, beside those that the folder has.

It stands between the manifests source and the store: a `facts.Sink` for the one, in front of the other. No Lease, no
writes: what it makes is streamed at once. The core is that of the API's controller (`slicing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec.structs import replace

from controlplane.endpoints.kinds import Watched, watched_of
from controlplane.endpoints.known import Known
from controlplane.endpoints.objects import EndpointSlice
from controlplane.endpoints.slicing import Write, plan
from controlplane.endpoints.triggers import Triggers, annotated
from controlplane.endpoints.values import Name, Pod
from controlplane.facts import Fact, Sink
from controlplane.source import objects
from controlplane.source.translate import translate
from deltaplane.model import Kind, ObjectKey

_STREAMED = msgspec.json.Decoder(objects.EndpointSlice)


class FolderEndpoints:
    """Passes the stream's kinds on to `sink`, with slices of its own; the others (`kinds.Watched`) are for it alone."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._known = Known(lenient=True)
        self._triggers = Triggers()
        self._by_hand: set[Name] = set()  # slices that the folder has
        self._deployed: dict[Name, frozenset[Name]] = {}  # Pods by the Deployment that they are of
        self._version = 0

    # ------------------------------------------------------------ facts.Sink

    def update(self, facts: Iterable[Fact]) -> None:
        """Takes changes as they happen, in order."""
        passed: list[Fact] = []
        touched: set[Name] = set()
        moment = 0
        for fact in facts:
            moment = max(moment, fact.event_unix_nano)
            touched |= self._learn(fact)
            if watched_of(fact.key.kind) is None:
                passed.append(fact)
        made = self._made(touched, moment)
        if passed or made:
            self._sink.update([*passed, *made])

    def replace(self, kind: Kind, facts: Iterable[Fact], resource_version: str) -> None:
        """Takes a complete list of one kind. The folder lists the controller's kinds first."""
        listed = list(facts)
        made = self._made({name for fact in listed for name in self._learn(fact)}, 0)
        if watched_of(kind) is not None:
            self._sink.update(made)
        elif kind is Kind.ENDPOINT_SLICE:
            own = [self._fact(one) for name in self._known.everyone for one in self._known.slices_of(name)]
            self._sink.replace(kind, [*listed, *own], resource_version)
        else:
            self._sink.replace(kind, listed, resource_version)

    def synced(self, kind: Kind) -> None:
        """The kind is complete."""
        if watched_of(kind) is None:
            self._sink.synced(kind)

    # ------------------------------------------------------------ what changed

    def _learn(self, fact: Fact) -> set[Name]:
        """The Services that it touches."""
        name = (fact.key.namespace, fact.key.name)
        value: Any = fact.object  # of the kinds in `Watched` it is one of `values`
        watched = watched_of(fact.key.kind)
        if watched is None:
            return self._hand_made(fact)
        if watched is Watched.SERVICE:
            return self._known.set_service(name, value)
        if watched is Watched.NODE:
            return self._known.set_node(fact.key.name, value)
        return self._known.set_pod(name, value) if watched is Watched.POD else self._deploy(name, value or ())

    def _deploy(self, name: Name, pods: Iterable[Pod]) -> set[Name]:
        """The Pods of a Deployment are these now."""
        now = {pod.key: pod for pod in pods}
        touched: set[Name] = set()
        for gone in self._deployed.pop(name, frozenset()) - now.keys():
            touched |= self._known.set_pod(gone, None)
        for key, pod in now.items():
            touched |= self._known.set_pod(key, pod)
        if now:
            self._deployed[name] = frozenset(now)
        return touched

    def _hand_made(self, fact: Fact) -> set[Name]:
        """A slice that the folder has keeps its name: one of ours that has it gets another."""
        if fact.key.kind is not Kind.ENDPOINT_SLICE:
            return set()
        name = (fact.key.namespace, fact.key.name)
        if fact.object is None:
            self._by_hand.discard(name)
            return set()
        self._by_hand.add(name)
        return self._known.set_slice(name, None)

    # ------------------------------------------------------------ what is made

    def _made(self, names: Iterable[Name], moment: int) -> list[Fact]:
        return [fact for name in sorted(names) for fact in self._sync(name, moment)]

    def _sync(self, name: Name, moment: int) -> Iterator[Fact]:
        service, slices = self._known.services.get(name), self._known.slices_of(name)
        if service is None or not service.managed:
            self._triggers.forget(name)
            writes = [Write(one, None) for one in slices]
        else:
            pods = self._known.pods_of(service)
            trigger, seen = self._triggers.look(service, pods)
            cluster = self._known.cluster if service.topology_mode else ()
            writes = plan(service, pods, self._known.node, slices, cluster)
            writes = [_stamped(write, trigger) for write in writes]
            self._triggers.note(name, seen)
        for write in writes:
            yield self._apply(write, moment)

    def _apply(self, write: Write, moment: int) -> Fact:
        if write.after is None:
            assert write.before is not None  # noqa: S101 - a write has one of them
            meta = write.before.metadata
            self._known.set_slice((meta.namespace, meta.name), None)
            key = ObjectKey(Kind.ENDPOINT_SLICE, meta.namespace, meta.name)
            return Fact(key, None, event_unix_nano=moment, deleted=True)
        self._version += 1
        meta = write.after.metadata
        named = replace(meta, name=meta.name or self._free(write.after), resource_version=str(self._version))
        one = replace(write.after, metadata=named)
        self._known.set_slice((named.namespace, named.name), one)
        return self._fact(one, moment)

    def _free(self, one: EndpointSlice) -> str:
        """The first free name, so that the same folder makes the same names."""
        number, meta = 1, one.metadata
        while True:
            name = f"{meta.generate_name}{one.address_type.lower()}-{number}"
            if (meta.namespace, name) not in self._by_hand and self._known.slice((meta.namespace, name)) is None:
                return name
            number += 1

    def _fact(self, one: EndpointSlice, moment: int = 0) -> Fact:
        """As the stream has it: read as if the API server had sent it."""
        fact = translate(Kind.ENDPOINT_SLICE, _STREAMED.decode(msgspec.json.encode(one)), moment).fact
        return replace(fact, resource_version="")


def _stamped(write: Write, trigger: int) -> Write:
    if write.after is None:
        return write
    meta = write.after.metadata
    return Write(
        write.before, replace(write.after, metadata=replace(meta, annotations=annotated(meta.annotations, trigger)))
    )
