"""Hostile text in a field of an object on the wire: that object is INVALID_OBJECT, one beside it is served.

Through codec, mirror and resolution to iptables' rules; and what people and Prometheus then read is whole.
"""

from __future__ import annotations

import logging

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from deltaplane.codec import decode_ops, encode_op
from deltaplane.logs import Formatter, event
from deltaplane.model import (
    Endpoint,
    EndpointPort,
    EndpointSlice,
    LoadBalancerIngress,
    Node,
    Object,
    Service,
    ServiceCidr,
    ServicePort,
    Upsert,
)
from deltaplane.resolve import NodeView
from deltaplane.v1 import objects_pb2
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.outcome import Commit, Failed
from nodeagent.dataplane.resolver import Resolver
from nodeagent.metrics.registry import Metrics
from nodeagent.stream.mirror import Mirror
from tests.fakes.iptables.memory import MemoryIptables
from tests.sessions import objects
from tests.unit.nodeagent.dataplane.fields import Path, declared, filled, hostile, leaves
from tests.unit.nodeagent.dataplane.nftables.walks import packed
from tests.unit.nodeagent.dataplane.test_no_rule_through_a_name import CIDRS, LINE, TAILS

WEB = Service(
    "ns",
    "web",
    3,
    (packed("10.96.0.9"),),
    (ServicePort("http", 6, 80, 30080),),
    (packed("198.51.100.8"),),
    (LoadBalancerIngress(packed("198.51.100.7")),),
    ("10.0.0.0/8", "2001:db8::/64"),
)
ENDPOINT = Endpoint(packed("10.0.0.1"), node="n1", zone="z", zone_hints=("z",), node_hints=("n1",))
SLICE = EndpointSlice("ns", "web-1", "web", 4, (EndpointPort("http", 6, 8080),), (ENDPOINT,))
NODE = Node("n1", "uid", (packed("192.0.2.9"),), "z", ("10.1.0.0/24", "fd00:1::/64"))
CIDR = ServiceCidr("kubernetes", ("10.96.0.0/16", "fd00:10:96::/112"))
OBJECTS: list[Object] = [WEB, SLICE, NODE, CIDR]
BESIDE: list[Object] = [objects.service(7), objects.slice_of(7, {1: 3})]
UNREAD = {"uid"}  # compared only: no rule, message or name is made of it
PLACES = [(each, path) for each in OBJECTS for path, text in leaves(each) if isinstance(text, str)]
every = pytest.mark.parametrize(
    ("value", "path"), [pytest.param(v, p, id=f"{type(v).__name__}.{'.'.join(map(str, p))}") for v, p in PLACES]
)
REFUSED = [text for text in TAILS if text != "\ud800" and any(not char.isprintable() for char in text)]
texts = st.sampled_from([text for text in TAILS if text != "\ud800"]) | st.text(max_size=30)


def arrived(*sent: Object) -> Mirror:
    """What a mirror has of objects that came over the wire."""
    message = objects_pb2.OpList()
    for each in sent:
        encode_op(Upsert(each), message.ops)
    ops = decode_ops(objects_pb2.OpList.FromString(message.SerializeToString()).ops)
    mirror = Mirror()
    mirror.commit(mirror.prepare(ops))
    return mirror


def rules(mirror: Mirror) -> list[str]:
    """The lines that iptables-restore gets of it."""
    kernel = MemoryIptables()
    dataplane = IptablesDataplane(kernel, Settings(CIDRS))
    dataplane.start()
    dataplane.apply(Resolver(mirror).resolve_all(NodeView("n1")), complete=True)
    return [line for _, text in kernel.inputs for line in text.removesuffix("\n").split("\n")]


@pytest.mark.parametrize("each", OBJECTS, ids=lambda each: type(each).__name__)
def test_every_text_that_an_object_declares_has_a_sample(each: Object) -> None:
    assert declared(type(each)) == set(filled(each))


def test_the_samples_are_good() -> None:
    assert not arrived(*OBJECTS, *BESIDE).invalid


@every
@pytest.mark.parametrize("text", REFUSED, ids=ascii)
def test_text_that_is_not_printable_makes_its_object_invalid_and_the_others_are_served(
    value: Object, path: Path, text: str
) -> None:
    bad = hostile(value, path, text)
    mirror = arrived(bad, *BESIDE)
    assert list(mirror.invalid) == [bad.key] or path[-1] in UNREAD
    failures = {(failure.key, failure.code) for failure in Resolver(mirror).failures()}
    assert failures == {(bad.key, "INVALID_OBJECT")} or path[-1] in UNREAD
    assert any("10.96.0.7/32" in line for line in rules(mirror))


@every
@given(text=texts)
@settings(max_examples=20, deadline=None)
def test_no_text_of_the_wire_makes_a_line_that_is_none_of_ours(value: Object, path: Path, text: str) -> None:
    rest = [each for each in OBJECTS if each is not value]
    lines = rules(arrived(hostile(value, path, text), *rest, *BESIDE))
    assert any("10.96.0.7/32" in line for line in lines)
    assert [line for line in lines if LINE.fullmatch(line) is None] == []


# ------------------------------------------------------------ what is read of it


def page(text: str) -> tuple[set[str], set[str]]:
    """The names and the values of labels on the metrics page, where an agent is told this text everywhere."""
    metrics, key = Metrics(), objects.service(1).key
    failed = (Failed(key._replace(name=f"a{text}"), "INVALID_OBJECT", text), Failed(key, text, ""))
    metrics.count_commit(Commit(failed=failed), 0.1)
    metrics.resynced(text)
    metrics.chose(text, text, fell_back=True)
    found = list(text_string_to_metric_families(generate_latest(metrics.registry).decode()))
    labels = (sample.labels for family in found for sample in family.samples)
    return {family.name for family in found}, {value for each in labels for value in each.values()}


@given(text=texts)
@settings(max_examples=40, deadline=None)
def test_the_metrics_page_stays_what_prometheus_reads_whatever_failed(text: str) -> None:
    names, values = page(text)
    assert names == page("x")[0]
    assert text in values


def test_a_log_line_is_one_line_without_anything_that_a_terminal_acts_on() -> None:
    for text in (*TAILS, "\x9b31m", "\u2066", "a\nERROR root: forged"):
        _check_lines(text)


def _check_lines(text: str) -> None:
    seen: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(Formatter().format(record))

    logger = logging.getLogger("t.hostile")
    logger.propagate = False  # pytest keeps lines raw, and cannot hand half of a surrogate pair on
    keep = Keep()
    logger.addHandler(keep)
    event(logger, logging.WARNING, "object failed", key=objects.service(1).key._replace(name=text), text=text)
    logger.warning("%s: %s", objects.service(1).key._replace(name=text), text)
    logger.removeHandler(keep)
    assert len(seen) == 2
    for line in seen:
        assert line.isprintable()
        line.encode()
