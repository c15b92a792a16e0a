"""W17: an operator looks at the running product with grpcurl, by reflection alone."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from google.protobuf import json_format
from google.protobuf.message import Message

from deltaplane.v1 import inspection_pb2 as inspection
from tests.e2e.shop import Shop
from tools.lab import parts

Grpcurl = Callable[..., str]
MANUAL = Path(__file__).parents[2] / "docs" / "operating.md"
SERVICE = "deltaplane.v1.InspectionService/"
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
    shop.sell()

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


def examples() -> list[list[str]]:
    """Every question to a replica in the manual, in plain text: the words of its grpcurl."""
    lines = re.findall(r"^grpcurl -plaintext (?!-unix).*$", MANUAL.read_text(), re.MULTILINE)
    return [shlex.split(line, comments=True)[2:] for line in lines]


def asked(words: list[str], shop: Shop, addresses: list[str]) -> list[str]:
    """An example's words, about what this network has."""
    names = shop.line.names
    texts = {"127.0.0.1:50051": shop.line.controlplane.relay.target, "node-a": names[0], "node-b": names[1]}
    texts |= {"10.96.0.1": addresses[0], '"port": 443': '"port": 80'}
    found = []
    for word in words:
        for text, here in texts.items():
            word = word.replace(text, here)  # noqa: PLW2901 - one text after the other
        found.append(word)
    return found


def test_w17_every_question_of_the_manual_is_answered(shop: Shop) -> None:
    addresses = shop.sell()
    program = str(parts.find("grpcurl"))
    said: dict[str, str] = {}

    for words in examples():
        endless = words[-1].rpartition("/")[2] in {"TailCommits", "TailChanges"}
        command = [program, "-plaintext", *(["-max-time", "2"] if endless else []), *asked(words, shop, addresses)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        said[words[-1].rpartition("/")[2]] = done.stdout
        assert endless or done.returncode == 0 or "ReleaseBrake" in words[-1], (words, done.stderr)
        assert not endless or "DeadlineExceeded" in done.stderr, done.stderr

    assert json.loads(said["Explain"])["explanation"]["fate"] == "FATE_REACHES"
    assert f'"{addresses[0]}"' in said["GetObject"]
    assert '"end"' in said["Dump"]
    assert json_format.Parse(said["Diff"], inspection.DiffResponse()).node.acknowledged


def test_a_wait_ends_when_every_kernel_has_it_and_names_the_node_that_has_not(shop: Shop, grpcurl: Grpcurl) -> None:
    shop.open()
    shop.settle()
    shop.line.wait_applied()
    stopped, *others = shop.line.names
    head = shop.line.controlplane.head()
    shop.line.agents[stopped].kill()
    try:
        shop.endpoints(shop.fabric.pods)
        shop.line.controlplane.wait_applied(others, after=head)
        what = {"object": {"key": {"kind": "KIND_SERVICE", "namespace": "default", "name": "my-service"}}}
        held = last(grpcurl(f"{SERVICE}WaitApplied", data=json.dumps({**what, "timeout_seconds": 2})))
    finally:
        shop.line.agents[stopped].start()
    whole = last(grpcurl(f"{SERVICE}WaitApplied", data=json.dumps({**what, "timeout_seconds": 20})))

    assert [one.node_name for one in held.lacking] == [stopped]
    assert held.lacking[0].reason == inspection.LACK_REASON_DISCONNECTED
    assert not held.applied
    assert (whole.applied, whole.nodes_applied) == (True, len(shop.line.names))


def last(output: str) -> inspection.WaitAppliedResponse:
    """The last of the messages that grpcurl printed."""
    text = output[output.rindex("\n{") if "\n{" in output else 0 :]
    return json_format.Parse(text, inspection.WaitAppliedResponse())
