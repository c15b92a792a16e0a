"""`get`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from deltaplane.v1 import agent_pb2, objects_pb2, views_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import names
from operatorcli.ask import Replica
from operatorcli.connect.target import SCHEME
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, usage, verb
from operatorcli.output import Answer
from operatorcli.views import forwarding, node, objects

PAGE = 500
ENDPOINTS = ("endpoints", "ep", "endpoint")
What = Annotated[str, typer.Argument(metavar="svc|endpoints|node", help="The kind of object; also KIND/NAME.")]
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="The Service or Node; without it: all of them.", show_default=False)
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Without it: the kubeconfig's, or default.")
]
All = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")]
OnNode = Annotated[str, typer.Option("--node", metavar="NODE", help="What this node makes of the Service.")]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(
        app, "get", "get svc -A", "get svc web -n shop", "get svc web -n shop --node=node-a",
        "get endpoints web -n shop", "get node node-a", "get nodes -o wide",
    )  # fmt: skip
    def get(
        asked: Asked,
        what: What,
        name: Name = "",
        namespace: Namespace = "",
        all_namespaces: All = False,
        node: OnNode = "",
    ) -> None:
        """Services, their endpoints and Nodes as the control plane has them, or as a node forwards them (--node).

        At an agent's own socket, `get svc NAME` shows what the agent wants, and what is read back from the kernel.
        """
        kind, name = split(what, name)
        if node and (kind != names.SERVICE or not name):
            raise usage("--node goes with one Service", "Such as: deltaplane get svc NAME --node=NODE")
        space = "" if all_namespaces else "default" if kind == names.NODE else asked.namespace(namespace)
        with asked.replica() as replica:
            asked.show(answer(asked, replica, kind, space, name, node))


def split(what: str, name: str) -> tuple[int, str]:
    """The kind (a slice stands for endpoints), and the name, of `svc NAME` and `svc/NAME`. Raises `Failed`."""
    kind, _, rest = what.partition("/")
    if rest and name:
        raise usage(f"{what} and {name}: two names", "Name one object.")
    number = names.SLICE if kind.lower() in ENDPOINTS else names.KINDS.get(kind.lower(), 0)
    if not number:
        raise usage(f"there is no kind {kind!r}", "Kinds are svc, endpoints and node.")
    chosen = rest or name
    return number, names.named(chosen) if chosen else ""


def answer(asked: Asked, replica: Replica, kind: int, namespace: str, name: str, on: str) -> Answer:
    """Of one or of all."""
    if kind == names.NODE and name:
        found = replica.ask("GetNode", pb.GetNodeRequest(node_name=name), pb.GetNodeResponse)
        return node.answer(found, name)
    if name and on:
        request = pb.ResolveForNodeRequest(node_name=names.named(on), namespace=namespace, name=name)
        return forwarding.answer(replica.ask("ResolveForNode", request, pb.ResolveForNodeResponse), on)
    if name:
        return one(asked, replica, kind, namespace, name)
    found_all = listed(replica, kind, namespace)
    shown: dict[int, Callable[[list[views_pb2.ObjectView]], Answer]] = {
        names.SERVICE: objects.services, names.SLICE: objects.slices, names.NODE: objects.nodes,
    }  # fmt: skip
    return shown[kind](found_all)


def one(asked: Asked, replica: Replica, kind: int, namespace: str, name: str) -> Answer:
    """A Service, or its endpoints; by an agent's socket, what is in the kernel. Raises `Failed`."""
    if not namespace:
        raise usage(f"{name} of all namespaces", "Name its namespace by -n instead of -A.")
    key = objects_pb2.ObjectKey(kind=names.SERVICE, namespace=namespace, name=name)
    try:
        found = replica.ask("GetObject", pb.GetObjectRequest(key=key), pb.GetObjectResponse)
    except Failed as failure:
        if failure.code is not Exit.FAILED or not asked.flags.server.startswith(SCHEME):
            raise
        here = agent_pb2.GetForwardingRequest(namespace=namespace, name=name)
        return forwarding.here(replica.ask("GetForwarding", here, agent_pb2.GetForwardingResponse))
    return objects.service(found) if kind == names.SERVICE else objects.endpoints(found)


def listed(replica: Replica, kind: int, namespace: str) -> list[views_pb2.ObjectView]:
    """All pages."""
    found: list[views_pb2.ObjectView] = []
    space = "" if kind == names.NODE else namespace
    while True:
        last = found[-1].key if found else objects_pb2.ObjectKey()
        request = pb.ListObjectsRequest(
            kind=kind, namespace=space, limit=PAGE, after_namespace=last.namespace, after_name=last.name,  # type: ignore[arg-type]
        )  # fmt: skip
        page = replica.ask("ListObjects", request, pb.ListObjectsResponse)
        found += page.objects
        if not page.more or not page.objects:
            return found
