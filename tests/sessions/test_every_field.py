"""Whatever stands in a field of an API object, another object of the same batch arrives, and both ends hold the same.

From the API server's JSON through decoding, translation, store, history and wire to the agent's mirror. The fields are
those of `controlplane.source.objects`, so that a new one is covered as soon as it is read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from controlplane.cluster import Cluster
from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.session import Session as Stream
from controlplane.snapshot import Snapshots
from controlplane.source.decode import Decoder, Malformed, form_of
from controlplane.source.translate import TYPES
from controlplane.trace import NoTracing
from deltaplane.model import Kind
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.events import Changed, Send
from nodeagent.stream.mirror import Mirror
from nodeagent.stream.session import Session as Agent
from tests.sessions import objects

TIMES = ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z", "2262-04-11T23:47:17Z", "1969-12-31T23:59:59Z"]
ADDRESSES = ["10.0.0.2", "fd00::1", "0.0.0.0", "127.0.0.1", "169.254.169.254", "224.0.0.1", "::", "::ffff:10.0.0.1"]
WORDS = [
    *(
        "",
        "a",
        "None",
        "ClusterIP",
        "NodePort",
        "LoadBalancer",
        "ExternalName",
        "Local",
        "Cluster",
        "ClientIP",
        "Proxy",
    ),
    *(
        "TCP",
        "UDP",
        "SCTP",
        "IPv4",
        "IPv6",
        "FQDN",
        "InternalIP",
        "80",
        "9" * 5000,
        "x" * 2_000_000,
        "\x00\x1b[2J",
        "ü",
    ),
    *('b"\nCOMMIT\n*filter\n', "10.0.0.0/8", "0.0.0.0/0", "fd00::/8", "\u202e", "x" * 300),
]
NUMBERS = [0, 1, 80, 65535, 65536, -1, 2**31 - 1, 2**31, 2**32, 2**63, 2**64, 10**30, 10**4000]
JUNK: list[Any] = [None, True, [], {}, 1.5, [[]], {"a": {"a": {}}}]
VALUES: list[Any] = [*WORDS, *ADDRESSES, *TIMES, *NUMBERS, *JUNK]
KEYS = ["endpoints.kubernetes.io/last-change-trigger-time", "kubernetes.io/service-name", "topology.kubernetes.io/zone"]
USABLE: dict[Kind, dict[str, Any]] = {
    Kind.SERVICE: {
        "metadata": {"name": "web", "namespace": "ns", "resourceVersion": "7"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.9",
            "clusterIPs": ["10.96.0.9"],
            "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}],
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
    },
    Kind.ENDPOINT_SLICE: {
        "metadata": {
            "name": "web-1",
            "namespace": "ns",
            "resourceVersion": "7",
            "labels": {"kubernetes.io/service-name": "web"},
            "annotations": {},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "z"}],
    },
    Kind.NODE: {
        "metadata": {"name": "n1", "uid": "u", "resourceVersion": "7", "labels": {}},
        "spec": {"podCIDRs": ["10.1.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.9"}]},
    },
    Kind.SERVICE_CIDR: {
        "metadata": {"name": "kubernetes", "resourceVersion": "7"},
        "spec": {"cidrs": ["10.96.0.0/16"]},
    },
}
Place = tuple[str | int, ...]


def places(type_: inspect.Type, here: Place = ()) -> Iterator[Place]:
    """Every place in an object of this type, the inner ones too; of a list its first item, of a map known keys."""
    if here:
        yield here
    if isinstance(type_, inspect.StructType):
        yield from (place for field in type_.fields for place in places(field.type, (*here, field.encode_name)))
    elif isinstance(type_, inspect.UnionType):
        inner = [each for each in type_.types if not isinstance(each, inspect.NoneType)]
        yield from (place for each in inner for place in places(each, here) if place != here)
    elif isinstance(type_, inspect.ListType):
        yield from places(type_.item_type, (*here, 0))
    elif isinstance(type_, inspect.DictType):
        yield from ((*here, key) for key in KEYS)


def changed(thing: Any, place: Place, value: object) -> Any:
    """A copy with this value at the place; what is missing on the way is made."""
    made = deepcopy(thing)
    at, last = made, place[-1]
    for step, following in pairwise(place):
        empty: Any = [] if isinstance(following, int) else {}
        if isinstance(step, int):
            at += [empty] * (not at)
        else:
            at.setdefault(step, empty)
        at = at[step]
    if isinstance(last, int):
        at[:1] = [value]
    else:
        at[last] = value
    return made


EVERY = [
    pytest.param(kind, place, id=f"{kind.name}.{'.'.join(map(str, place))}")
    for kind in Kind
    for place in places(inspect.type_info(TYPES[kind]))
]


class Path:
    """A whole path: a control plane's state, one stream, and an agent's mirror at its end."""

    def __init__(self) -> None:
        self.problems: dict[str, str] = {}
        self.cluster = Cluster(Log(), NoTracing(), self)
        for kind in Kind:
            self.cluster.synced(kind)
        store, log = self.cluster.store, self.cluster.log
        self.stream = Stream(store, log, Snapshots(store, log))
        self.agent = Agent(pb.Hello(node_name="n1"), Mirror())
        self._to_server(self.agent.connected(0.0))
        self.pump(0.0)

    def invalid(self, where: str, reason: str) -> None:
        self.problems[where] = reason

    def valid(self, where: str) -> None:
        self.problems.pop(where, None)

    def _to_server(self, data: bytes) -> None:
        self.stream.on_message(pb.WatchRequest.FromString(data), 0.0)

    def pump(self, now: float) -> None:
        while (message := self.stream.next_message(now)) is not None:
            for event in self.agent.received(message, now):
                if isinstance(event, Send):
                    assert not pb.WatchRequest.FromString(event.message).HasField("resync_request")
                    self._to_server(event.message)
                elif isinstance(event, Changed):
                    ack = self.agent.applied(event.rev, now)
                    if ack is not None:
                        self._to_server(ack)
        assert self.stream.closed is None

    def differs(self) -> bool:
        mirror = self.agent.mirror
        return mirror.digest.value != self.cluster.store.digest.value or set(mirror.objects()) != set(
            self.cluster.store.objects()
        )


def received(kind: Kind, thing: object) -> list[Fact]:
    """What the source makes of an event with this object; nothing where it is no event at all."""
    try:
        item = Decoder(form_of(kind)).event(json.dumps({"type": "MODIFIED", "object": thing}).encode(), 1).item
    except Malformed:
        return []
    return [item.fact] if item is not None and item.fact is not None else []


def arrives_beside(kind: Kind, things: list[Any], *, together: bool = False) -> None:
    """The things one after the other, or `together`, each time with an innocent object that is another one."""
    path = Path()
    facts = [received(kind, thing) for thing in things]
    for number, some in enumerate([[one for each in facts for one in each]] if together else facts, 1):
        innocent = objects.service(1, number)
        path.cluster.update([*some, Fact(innocent.key, innocent)])
        path.pump(float(number))
        assert path.agent.mirror.services["ns", "svc-1"] == innocent, things[number - 1]
        assert not path.differs(), things[number - 1]
    path.cluster.heal()
    assert path.cluster.renewals == 0


@pytest.mark.parametrize(("kind", "place"), EVERY)
def test_an_innocent_object_in_the_same_batch_arrives(kind: Kind, place: Place) -> None:
    arrives_beside(kind, [changed(USABLE[kind], place, value) for value in VALUES])


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_it_arrives_whatever_several_fields_say(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(list(Kind)))
    known = list(places(inspect.type_info(TYPES[kind])))
    thing = USABLE[kind]
    for place in data.draw(st.lists(st.sampled_from(known), min_size=2, max_size=4)):
        try:
            thing = changed(thing, place, data.draw(st.sampled_from(VALUES)))
        except (TypeError, AttributeError, KeyError):
            break  # an earlier value left no room for this place
    arrives_beside(kind, [USABLE[kind], thing], together=True)


def test_the_usable_objects_are_taken_and_every_field_has_a_place() -> None:
    for kind, thing in USABLE.items():
        assert [fact.object is not None for fact in received(kind, thing)] == [True]
    assert {place[0] for place in places(inspect.type_info(TYPES[Kind.SERVICE]))} >= {"metadata", "spec", "status"}
