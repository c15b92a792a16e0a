"""One question to `wait`, at one replica, as somebody asks it after a change; and its answer."""

from __future__ import annotations

import json
import subprocess
import time
from typing import NamedTuple

import grpc
from google.protobuf import json_format

from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from tests.waits.changes import Change
from tests.waits.objects import NAMESPACE, SERVICES, SLICES, STEADY, Put
from tests.waits.world import Plane
from tools.lab.deltaplane import COMMAND as PROGRAM

KINDS = {SERVICES: objects_pb2.KIND_SERVICE, SLICES: objects_pb2.KIND_ENDPOINT_SLICE}
WORDS = {SERVICES: "svc", SLICES: "endpointslice"}
OBJECT, REVISION, REMOVED, COMMAND = "object@version", "revision", "removed", "the command"


class Answer(NamedTuple):
    """The last message to the last request, and seconds from that to it. `error`: there is none."""

    last: pb.WaitAppliedResponse
    seconds: float
    error: str = ""


def ways(change: Change) -> list[str]:
    """How the change can be waited for."""
    return [OBJECT, OBJECT, REVISION, *([REMOVED, REMOVED] if change.left else [])]


def ask(plane: Plane, change: Change, way: str, seconds: float, nodes: pb.NodeSelection | None = None) -> Answer:
    """Waits at most so long for each object that was written."""
    began = time.monotonic()
    last = pb.WaitAppliedResponse()
    try:
        for request in _requests(plane, change, way, seconds):
            request.timeout_seconds, began = seconds, time.monotonic()
            last = _command(plane, change, request) if way == COMMAND else _call(plane, request)
            if not last.applied:
                break
    except (grpc.RpcError, AssertionError) as error:
        return Answer(last, time.monotonic() - began, f"{type(error).__name__}: {error}")
    return Answer(last, time.monotonic() - began)


def _requests(plane: Plane, change: Change, way: str, seconds: float) -> list[pb.WaitAppliedRequest]:
    if way == REMOVED:
        return [pb.WaitAppliedRequest(removed_address=each) for each in change.left]
    if way == REVISION:
        _seen(plane, change, seconds)
        return [pb.WaitAppliedRequest(revision=pb.RevisionOf())]
    return [pb.WaitAppliedRequest(object=version_of(each)) for each in change.written]


def version_of(put: Put) -> pb.ObjectVersion:
    key = objects_pb2.ObjectKey(kind=KINDS[put.resource], namespace=NAMESPACE, name=put.name)
    return pb.ObjectVersion(key=key, resource_version=str(put.version))


def _seen(plane: Plane, change: Change, seconds: float) -> None:
    """Until this replica has the change, so that its head is a revision that has it."""
    end = time.monotonic() + seconds
    for put in change.written:
        name = STEADY.name if put.resource == SERVICES else f"{STEADY.name}-a"
        key = objects_pb2.ObjectKey(kind=KINDS[put.resource], namespace=NAMESPACE, name=name)
        request = pb.GetObjectRequest(key=key)
        while (
            int(plane.inspect.GetObject(request, timeout=10, wait_for_ready=True).kind_resource_version) < put.version
        ):
            assert time.monotonic() < end, f"{plane.name} has not seen {put}"
            time.sleep(0.02)


def _call(plane: Plane, request: pb.WaitAppliedRequest) -> pb.WaitAppliedResponse:
    limit = request.timeout_seconds + 15
    last = pb.WaitAppliedResponse()
    for message in plane.inspect.WaitApplied(request, timeout=limit, wait_for_ready=True):
        last = message
    assert last.done, "the answer has no end"
    return last


def _command(plane: Plane, change: Change, request: pb.WaitAppliedRequest) -> pb.WaitAppliedResponse:
    key, version = request.object.key, request.object.resource_version
    resource = next(each for each, kind in KINDS.items() if kind == key.kind)
    words = [
        *PROGRAM, "wait", f"{WORDS[resource]}/{NAMESPACE}/{key.name}", "-o", "json",
        f"--timeout={request.timeout_seconds:.2f}s", f"--resource-version={version}", f"--server={plane.address}",
        "--insecure",
    ]  # fmt: skip
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (0, 1), f"exit {done.returncode}: {done.stderr}"
    last = json_format.ParseDict(json.loads(done.stdout), pb.WaitAppliedResponse())
    assert last.applied == (done.returncode == 0)
    return last
