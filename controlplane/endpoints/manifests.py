"""Pods, Deployments and Services of a folder of manifests, as the endpoints controller reads them. Pure.

A folder has no kubelet and no scheduler, so an annotation says what those would: `deltaplane.dev/pod-addresses`, on a
Pod or a Deployment, has one entry for each Pod, with commas between. An entry has the Pod's addresses, perhaps `@NODE`,
and perhaps one word: not-ready or terminating.

    deltaplane.dev/pod-addresses: 10.244.1.10 fd00:10:244:1::10 @node-1, 10.244.2.10 @node-2 not-ready

Without it a Pod has what its status says. A Pod counts as ready unless its entry or its condition Ready says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from controlplane.endpoints import objects, translate
from controlplane.endpoints.kinds import TYPES, Watched, key_of, kind_of
from controlplane.endpoints.values import Pod
from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source.decode import field_path
from controlplane.source.documents import Entry
from controlplane.source.manifests import More
from controlplane.source.usable import Invalid, Problems
from deltaplane.names import is_subdomain, shown

ADDRESSES = "deltaplane.dev/pod-addresses"
WORDS = frozenset({"not-ready", "terminating"})


class Place(Struct, frozen=True):
    """An entry of the annotation: where one Pod is, and how it is."""

    addresses: tuple[str, ...]
    node: str
    word: str


def places(text: str, problems: Problems) -> list[Place]:
    """The entries. One that cannot be used is left out and named."""
    found = []
    for index, entry in enumerate(text.split(",")):
        parts, at = entry.split(), f"metadata.annotations[{ADDRESSES}]: entry {index + 1}"
        nodes = [part[1:] for part in parts if part.startswith("@")]
        words = [part for part in parts if part in WORDS]
        rest = [part for part in parts if not part.startswith("@") and part not in WORDS]
        addresses = translate.addresses(rest, at, problems)
        if len(nodes) > 1 or len(words) > 1 or not all(is_subdomain(node) for node in nodes):
            problems.append(f"{at}: {shown(entry.strip())} is not ADDRESS... [@NODE] [not-ready|terminating]; skipped")
        elif addresses:
            found.append(Place(addresses, "".join(nodes), "".join(words)))
        elif not rest:
            problems.append(f"{at}: no address; skipped")
    return found


def _placed(pod: Pod, place: Place) -> Pod:
    return replace(
        pod,
        addresses=place.addresses,
        node=place.node or pod.node,
        ready=place.word != "not-ready",
        terminating=pod.terminating or place.word == "terminating",
    )


def pod(thing: objects.Pod, problems: Problems) -> Pod:
    """A Pod of a folder."""
    read = translate.pod(thing, problems)
    conditions = (thing.status.conditions if thing.status else None) or ()
    if not any(one.type == "Ready" for one in conditions):
        read = replace(read, ready=True)
    text = (thing.metadata.annotations or {}).get(ADDRESSES)
    if text is None:
        return read
    found = places(text, problems)
    if len(found) != 1:
        raise Invalid(f"metadata.annotations[{ADDRESSES}]: {len(found)} usable entries; a Pod has one")
    return _placed(read, found[0])


def deployment(thing: objects.Deployment, problems: Problems) -> tuple[Pod, ...]:
    """Its Pods: the first `replicas` of those that the annotation has. Each is named by its address."""
    meta, spec = thing.metadata, thing.spec or objects.DeploymentSpec()
    template = spec.template or objects.PodTemplate()
    found = places((meta.annotations or {}).get(ADDRESSES, ""), problems) if spec.replicas != 0 else []
    wanted = len(found) if spec.replicas is None else spec.replicas
    if wanted > len(found):
        problems.append(f"spec.replicas: {wanted}, but metadata.annotations[{ADDRESSES}] has {len(found)} Pods")
    made = objects.Pod(template.metadata, template.spec)
    base = replace(translate.pod(made, problems), namespace=meta.namespace)
    return tuple(_placed(_named(base, meta.name, place), place) for place in found[:wanted])


def _named(base: Pod, deployment: str, place: Place) -> Pod:
    name = f"{deployment}/{place.addresses[0]}"  # no Pod of a manifest can have this one
    return replace(base, name=name, uid=f"{base.namespace}/{name}")


# ------------------------------------------------------------ documents


def _entry(watched: Watched, read: Callable[[Any, Problems], Any], content: dict[str, Any]) -> Entry:
    """What a document says for the controller, beside what it says for the stream."""
    kind = content.get("kind")
    try:
        thing = msgspec.convert(content, _SHAPES[watched])
        if watched is not Watched.NODE:
            thing.metadata.namespace = thing.metadata.namespace or "default"
        key = key_of(watched, thing.metadata)
    except msgspec.ValidationError as error:
        return Entry(f"{kind} for endpoints", problems=(field_path(error, "$"),))
    except InvalidObject as error:
        return Entry(f"{kind} for endpoints", problems=(str(error).partition(": ")[2],))
    problems: Problems = []
    try:
        fact = Fact(key, read(thing, problems))
    except Invalid as error:
        return Entry(str(key), key, problems=(str(error), *problems))
    except Exception as error:  # noqa: BLE001 - a fault of ours with one object must not hold up the others
        return Entry(str(key), key, problems=(f"unforeseen: {type(error).__name__}: {error}",))
    return Entry(str(key), key, fact, tuple(problems))


_SHAPES = {**TYPES, Watched.DEPLOYMENT: objects.Deployment}
_KINDS: dict[tuple[str, str], tuple[Watched, Callable[[Any, Problems], Any]]] = {
    ("v1", "Node"): (Watched.NODE, translate.node),
    ("v1", "Pod"): (Watched.POD, pod),
    ("apps/v1", "Deployment"): (Watched.DEPLOYMENT, deployment),
    ("v1", "Service"): (Watched.SERVICE, translate.service),
}
MORE = More(
    tuple(kind_of(watched) for watched, _ in _KINDS.values()),
    {kind: partial(_entry, watched, read) for kind, (watched, read) in _KINDS.items()},
)
