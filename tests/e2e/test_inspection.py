"""W17: an operator looks at the running product with grpcurl, by reflection alone."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import TypeVar

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from deltaplane.v1 import inspection_pb2 as inspection
from tests.e2e.shop import Shop
from tools.lab import parts

Grpcurl = Callable[..., str]
Answer = TypeVar("Answer", bound=Message)


@pytest.fixture
def grpcurl(shop: Shop) -> Grpcurl:
    """`grpcurl -plaintext ... HOST:PORT ...` at the control plane. Returns its output."""
    try:
        program = parts.find("grpcurl")
    except parts.PartMissing as missing:
        pytest.skip(str(missing))

    def run(*words: str, data: str = "") -> str:
        target = shop.line.controlplane.relay.target
        command = [str(program), "-plaintext", *(["-d", data] if data else []), target, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout

    return run


def ask(grpcurl: Grpcurl, method: str, answer: Answer, data: str = "{}") -> Answer:
    """What grpcurl prints, as the message it says it is."""
    return json_format.Parse(grpcurl(method, data=data), answer)


def test_w17_list_shows_the_services(grpcurl: Grpcurl) -> None:
    assert set(grpcurl("list").split()) >= {
        "deltaplane.v1.DeltaService",
        "deltaplane.v1.InspectionService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


def test_w17_describe_shows_methods_and_typed_messages(grpcurl: Grpcurl) -> None:
    watch = "rpc Watch ( stream .deltaplane.v1.WatchRequest ) returns ( stream .deltaplane.v1.WatchResponse );"
    assert watch in grpcurl("describe", "deltaplane.v1.DeltaService")
    assert "rpc ListNodes" in grpcurl("describe", "deltaplane.v1.InspectionService")
    delta = grpcurl("describe", "deltaplane.v1.Delta")
    assert "repeated .deltaplane.v1.Op ops" in delta
    assert "repeated .deltaplane.v1.Cause causes" in delta
    assert "uint64 applied_rev" in grpcurl("describe", "deltaplane.v1.Ack")


def test_w17_get_status_counts_what_the_cluster_has(shop: Shop, grpcurl: Grpcurl) -> None:
    shop.open()
    shop.endpoints(shop.fabric.pods)
    shop.settle()

    status = ask(grpcurl, "deltaplane.v1.InspectionService/GetStatus", inspection.GetStatusResponse())

    assert status.counts.services == 2  # the API server's own is one
    assert status.counts.endpoint_slices == 3
    assert status.counts.nodes == status.connected_nodes == 3
    assert status.head_rev > 0
    assert len(bytes.fromhex(status.epoch)) == 16


def test_w17_list_nodes_shows_what_each_has_in_its_kernel(shop: Shop, grpcurl: Grpcurl) -> None:
    shop.open()
    shop.settle()
    shop.line.wait_applied()

    answer = ask(grpcurl, "deltaplane.v1.InspectionService/ListNodes", inspection.ListNodesResponse())

    assert [node.node_name for node in answer.nodes] == shop.line.names
    for node in answer.nodes:
        assert (node.state, node.proxy_mode) == (inspection.NODE_STATE_LIVE, "nftables")
        assert node.sent_rev == node.received_rev == node.applied_rev == answer.head_rev
        assert not node.failed


@pytest.mark.parametrize("service", ["", "deltaplane.v1.DeltaService", "deltaplane.v1.InspectionService"])
def test_w17_the_health_service_says_serving(grpcurl: Grpcurl, service: str) -> None:
    answer = json.loads(grpcurl("grpc.health.v1.Health/Check", data=json.dumps({"service": service})))
    assert answer == {"status": "SERVING"}
