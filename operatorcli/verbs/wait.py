"""`wait`."""

from __future__ import annotations

import ipaddress
import sys
import time
from typing import Annotated

import typer

from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2
from operatorcli import names
from operatorcli.ask import Replica
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, length, usage, verb
from operatorcli.text import key
from operatorcli.views import wait as wait_view

LONGEST = 600.0  # seconds, of WaitAppliedRequest
What = Annotated[
    str, typer.Argument(metavar="svc/NAME", help="Also svc/NAMESPACE/NAME, node/NAME, endpointslice/NAME.")
]
For = Annotated[
    str,
    typer.Option(
        "--for",
        metavar="applied|removed=POD",
        help="That the kernels have it as it is now, or that no node sends new connections to the pod any more.",
    ),
]
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="After which the answer is no; at most 10m.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Without it: the kubeconfig's, or default.")
]
Nodes = Annotated[str, typer.Option("--nodes", metavar="NODE[,NODE]", help="Only these; without it all.")]
Zones = Annotated[str, typer.Option("--zones", metavar="ZONE[,ZONE]", help="Only nodes of these zones.")]
Except = Annotated[str, typer.Option("--except", metavar="NODE[,NODE]", help="Not these.")]
Quorum = Annotated[
    int, typer.Option("--quorum", metavar="PERCENT", min=1, max=100, help="So many of the nodes are enough.")
]
Version = Annotated[
    str,
    typer.Option(
        "--resource-version", metavar="VERSION", help="At least this one; without it: as the replica has it now."
    ),
]
IgnoreAbsent = Annotated[
    bool, typer.Option("--ignore-without-agent", help="Do not wait for Nodes whose agent never connected.")
]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(app, "wait", "wait svc/web -n shop --timeout=10s", "wait svc/shop/web --for=removed=10.244.9.9 --timeout=10s")
    def wait(
        asked: Asked, what: What, for_: For = "applied", timeout: Timeout = "10s", namespace: Namespace = "",
        nodes: Nodes = "", zones: Zones = "", except_: Except = "", quorum: Quorum = 100,
        resource_version: Version = "", ignore_without_agent: IgnoreAbsent = False,
    ) -> Exit:  # fmt: skip
        """Returns when the kernels of all chosen nodes have it; else names those that do not at the time-out, and why.

        Ends with 0 when all have it, else with 1. Right after `kubectl apply` a replica may not have seen the new
        version yet: through a kubeconfig the command asks the API server for the version to wait for; with --server,
        give the object's metadata.resourceVersion by --resource-version. POD is a pod's address, or all of them with
        commas between; through a kubeconfig also its name, which stands for all.
        """
        limit = length("timeout", timeout)
        if limit > LONGEST:
            raise usage(f"--timeout={timeout} is too long", "The longest is 10m.")
        object_key = names.key(what, asked.namespace(namespace))
        selection = pb.NodeSelection(
            names=_list(nodes), zones=_list(zones), except_names=_list(except_),
            ignore_without_agent=ignore_without_agent,
        )  # fmt: skip
        request = pb.WaitAppliedRequest(nodes=selection, quorum_percent=quorum, timeout_seconds=limit or 0.001)
        with asked.replica() as replica:
            condition, requests = _aimed(request, replica, for_, object_key, resource_version)
            answer, code = wait_view.answer(condition, _all(replica, requests, limit), time.time())
        asked.show(answer)
        return code


def _list(given: str) -> list[str]:
    return [each for each in given.split(",") if each]


def _aimed(
    request: pb.WaitAppliedRequest, replica: Replica, condition: str, of: objects_pb2.ObjectKey, version: str
) -> tuple[str, list[pb.WaitAppliedRequest]]:
    """What is waited for in words, and the requests that say it, of which all are to be met. Raises `Failed`."""
    kind, _, pod = condition.partition("=")
    if kind == "applied" and not pod:
        seen = version or replica.version(of)
        request.object.CopyFrom(pb.ObjectVersion(key=of, resource_version=seen))
        return f"{key(of)}{'@' if seen else ''}{seen} is applied", [request]
    if kind == "removed" and pod:
        return f"{pod} gets no new connections", [_gone(request, each) for each in _addresses(replica, of, pod)]
    raise usage(f"--for={condition} is neither applied nor removed=POD", "POD is a pod's name or address.")


def _gone(request: pb.WaitAppliedRequest, address: str) -> pb.WaitAppliedRequest:
    asked = pb.WaitAppliedRequest()
    asked.CopyFrom(request)
    asked.removed_address = address
    return asked


def _addresses(replica: Replica, of: objects_pb2.ObjectKey, pod: str) -> list[str]:
    """A pod's addresses: those that are given, with commas between, or by its name all that it has."""
    try:
        return [str(ipaddress.ip_address(each.strip().strip("[]"))) for each in pod.split(",")]
    except ValueError:
        return replica.pod_addresses(of.namespace, names.named(pod))


def _all(replica: Replica, requests: list[pb.WaitAppliedRequest], limit: float) -> pb.WaitAppliedResponse:
    """The last message of the first that is not met, or of the last one. `limit`: seconds for all of them."""
    until = time.monotonic() + limit
    for request in requests:
        left = max(0.0, until - time.monotonic()) if request is not requests[0] else limit
        request.timeout_seconds = left or 0.001
        answer = last(replica, request, left)
        if not answer.applied:
            break
    return answer


def last(replica: Replica, request: pb.WaitAppliedRequest, limit: float) -> pb.WaitAppliedResponse:
    """The last message; on a terminal, how far it is meanwhile. Raises `Failed`."""
    told = sys.stderr.isatty()
    for message in replica.follow("WaitApplied", request, pb.WaitAppliedResponse, limit=limit + replica.timeout):
        if told:
            print(f"\r\x1b[K{'' if message.done else wait_view.progress(message)}", end="", file=sys.stderr, flush=True)
        if message.done:
            return message
    raise Failed(
        Exit.UNREACHED, f"the replica at {replica.where} stopped answering", "Ask again; another replica by --replica."
    )
