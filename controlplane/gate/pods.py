"""Pods with the gate, as facts. What a Pod without it says ends here, so that nothing of it is kept. Pure.

Field meanings: k8s.io/api core/v1 types.go; the reason by which a kubelet says that nothing but gates is missing:
pkg/kubelet/status/generate.go of Kubernetes.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any, cast

from msgspec import Struct, field

from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source.decode import Form
from controlplane.source.objects import Metadata
from controlplane.source.translate import Translation
from deltaplane.addresses import parse_address
from deltaplane.model import Kind, ObjectKey, ServiceName

GATE = "deltaplane.dev/programmed"
ONLY_GATES = "ReadinessGatesNotReady"  # of the condition Ready: every container is ready, and a gate is not
TRUE = "True"


class Watched(IntEnum):
    """A number beside those of the wire's kinds and of the endpoints controllers'."""

    POD = 201


POD = cast(Kind, Watched.POD)


class _Gate(Struct, gc=False, rename="camel"):
    condition_type: str = ""


class _Spec(Struct, gc=False, rename="camel"):
    node_name: str | None = None
    readiness_gates: list[_Gate] | None = None


class _Condition(Struct, gc=False, rename="camel"):
    type: str = ""
    status: str = ""
    reason: str | None = None


class _Ip(Struct, gc=False, rename="camel"):
    ip: str = ""


class _Status(Struct, gc=False, rename="camel"):
    phase: str | None = None
    pod_ips: list[_Ip] | None = field(default=None, name="podIPs")
    conditions: list[_Condition] | None = None


class ApiPod(Struct, gc=False, rename="camel"):
    """As the API server sends it."""

    metadata: Metadata = field(default_factory=Metadata)
    spec: _Spec | None = None
    status: _Status | None = None


class GatedPod(Struct, frozen=True, gc=False):
    """`early`: nothing but this gate is missing for it to be Ready, or the kubelet has not yet seen that it is true.
    `programmed`: the gate is true. `addresses`: packed."""

    namespace: str
    name: str
    uid: str
    node: str = ""
    addresses: tuple[bytes, ...] = ()
    early: bool = False
    ready: bool = False
    programmed: bool = False

    @property
    def key(self) -> ServiceName:
        return (self.namespace, self.name)


class Key(ObjectKey):
    """A Pod's name; its text is that of a Pod."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"Pod {self.namespace}/{self.name}"


def key_of(metadata: Metadata) -> ObjectKey:
    """Raises `InvalidObject` if it has no name."""
    key = Key(POD, metadata.namespace, metadata.name)
    if not metadata.name or not metadata.namespace:
        raise InvalidObject(f"{key}: metadata.name or metadata.namespace: missing")
    return key


def fact_of(thing: ApiPod, event_unix_nano: int = 0) -> Translation:
    """The fact; without an object where the Pod has no such gate, or has ended."""
    problems: list[str] = []
    value: Any = _value(thing, problems)
    fact = Fact(key_of(thing.metadata), value, thing.metadata.resource_version, event_unix_nano)
    return Translation(fact, tuple(problems))


def _value(thing: ApiPod, problems: list[str]) -> GatedPod | None:
    spec, status, meta = thing.spec or _Spec(), thing.status or _Status(), thing.metadata
    gates = {gate.condition_type for gate in spec.readiness_gates or ()}
    if GATE not in gates or status.phase in {"Succeeded", "Failed"} or meta.deletion_timestamp is not None:
        return None
    held = {each.type: each for each in status.conditions or ()}
    others = all(held.get(gate, _Condition()).status == TRUE for gate in gates - {GATE})
    ready = held.get("Ready", _Condition())
    early = others and ready.status != TRUE and ready.reason == ONLY_GATES
    programmed = held.get(GATE, _Condition()).status == TRUE
    node, addresses = spec.node_name or "", _addresses(status, problems)
    ready_now = ready.status == TRUE
    return GatedPod(meta.namespace, meta.name, meta.uid, node, addresses, early, ready_now, programmed)


def _addresses(status: _Status, problems: list[str]) -> tuple[bytes, ...]:
    found = []
    for index, one in enumerate(status.pod_ips or ()):
        try:
            found.append(parse_address(one.ip))
        except ValueError as error:
            problems.append(f"status.podIPs[{index}].ip: {error}; skipped")
    return tuple(found)


FORM = Form(ApiPod, key_of, fact_of)
