"""W18: one change is one trace in a real Jaeger, and no collector is no trouble."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, Shop, deployed
from tools.lab.client import until
from tools.lab.jaeger import Jaeger
from tools.lab.rest import Rest

ONCE = ("api event", "ingest", "batch")
ON_EACH_NODE = ("send", "receive", "resolve", "kernel commit", "ack")


@contextmanager
def traced(cluster: Cluster, objects: Rest, folder: Path, endpoint: str) -> Iterator[Shop]:
    """The product with every change traced to this collector."""
    flags = (f"--kubeconfig={cluster.kubeconfig}", f"--otlp-endpoint={endpoint}", "--trace-sample-ratio=1")
    with deployed(cluster.fabric, folder, *flags) as line:
        yield Shop(objects, line, cluster.fabric)


def about(trace: dict[str, Any], name: str) -> bool:
    """Whether this is the trace of a change of that object."""
    tags = [tag for span in trace["spans"] if span["operationName"] == "api event" for tag in span["tags"]]
    return any(tag["key"] == "deltaplane.object" and name in tag["value"] for tag in tags)


def complete(trace: dict[str, Any], nodes: int) -> bool:
    found = Counter(span["operationName"] for span in trace["spans"])
    return found == Counter({**dict.fromkeys(ONCE, 1), **dict.fromkeys(ON_EACH_NODE, nodes)})


def parent(span: dict[str, Any]) -> str | None:
    return next((one["spanID"] for one in span["references"] if one["refType"] == "CHILD_OF"), None)


def tag(span: dict[str, Any], key: str) -> Any:
    return next((one["value"] for one in span["tags"] if one["key"] == key), None)


def test_w18_one_change_is_one_trace_from_the_api_event_to_every_ack(
    cluster: Cluster, objects: Rest, jaeger: Jaeger, tmp_path: Path
) -> None:
    with traced(cluster, objects, tmp_path, jaeger.otlp) as shop:
        shop.open("asked")
        shop.settle()
        until(lambda: [one for one in jaeger.traces("deltaplane") if about(one, "asked") and complete(one, 3)], LIMIT)

    found = [one for one in jaeger.traces("deltaplane") if about(one, "asked")]
    assert len(found) == 1
    spans = {span["spanID"]: span for span in found[0]["spans"]}
    root = next(span for span in spans.values() if parent(span) is None)
    assert root["operationName"] == "api event"
    for span in spans.values():
        name = span["operationName"]
        if name in ("ingest", "batch", "send"):
            assert spans[parent(span) or ""] is root
        if name in ON_EACH_NODE[1:]:
            send = spans[parent(span) or ""]
            assert send["operationName"] == "send"
            assert tag(send, "deltaplane.node") == tag(span, "deltaplane.node")
    for stage in ON_EACH_NODE:
        at = {tag(span, "deltaplane.node") for span in spans.values() if span["operationName"] == stage}
        assert at == set(shop.line.names)
    commits = [span for span in spans.values() if span["operationName"] == "kernel commit"]
    assert all(tag(span, "deltaplane.kernel.elements") > 0 and span["duration"] > 0 for span in commits)


def test_w18_stages_follow_each_other(cluster: Cluster, objects: Rest, jaeger: Jaeger, tmp_path: Path) -> None:
    with traced(cluster, objects, tmp_path, jaeger.otlp) as shop:
        shop.open("ordered")
        shop.settle()
        until(lambda: [one for one in jaeger.traces("deltaplane") if about(one, "ordered") and complete(one, 3)], LIMIT)

    spans = next(one for one in jaeger.traces("deltaplane") if about(one, "ordered"))["spans"]
    for node in shop.line.names:
        mine = {span["operationName"]: span for span in spans if tag(span, "deltaplane.node") in (None, node)}
        starts = [mine[stage]["startTime"] for stage in (*ONCE, *ON_EACH_NODE)]
        assert starts == sorted(starts)


@pytest.mark.slow
def test_w18_without_a_collector_changes_arrive_and_the_log_stays_quiet(
    cluster: Cluster, objects: Rest, tmp_path: Path
) -> None:
    nobody = f"{cluster.fabric.apiserver.v4}:4999"
    with traced(cluster, objects, tmp_path, nobody) as shop:
        process = shop.line.controlplane.process
        assert process is not None
        shop.open()
        shop.settle()
        process.wait_log("trace collector does not answer", 60)
        before = len(process.output().splitlines())
        for pods in [shop.fabric.pods[:count] for count in (1, 2, 3, 4, 5, 6)]:
            shop.endpoints(pods)
            shop.settle()
        shop.line.wait_applied()
        said = process.output().splitlines()
    # Whatever else a busy machine makes it say: nothing of what it cannot export.
    assert [line for line in said[before:] if re.search(r"(?i)trace|export|telemetry", line)] == []
    assert len([line for line in said if "collector" in line]) == 1
    assert "Traceback" not in "\n".join(said)
