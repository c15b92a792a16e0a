"""`get`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated

import typer

from deltaplane.v1 import agent_pb2, objects_pb2, views_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import names, targets
from operatorcli.ask import Replica
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, usage, verb
from operatorcli.output import Answer
from operatorcli.tables import Block, Sentence
from operatorcli.targets import Target
from operatorcli.views import forwarding, node, objects

PAGE = 500
What = Annotated[
    list[str],
    typer.Argument(metavar="KIND [NAME]", help="svc, endpoints or node, and names; also KIND/[NAMESPACE/]NAME."),
]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Without it: the kubeconfig's, or default.")
]
All = Annotated[bool, typer.Option("--all-namespaces", "-A", help="Of all namespaces.")]
OnNode = Annotated[str, typer.Option("--node", metavar="NODE", help="What this node makes of the Service.")]
Selector = Annotated[str, typer.Option("--selector", "-l", hidden=True)]
BY_LABEL = "kubectl knows labels: deltaplane get $(kubectl get svc -n NAME -l LABEL=VALUE -o name) -n NAME"
Watched = Annotated[bool, typer.Option("--watch", "-w", hidden=True)]
Shown = tuple[Answer, Exit]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(
        app, "get", "get svc -A", "get svc web db -n shop", "get svc/shop/web --node=node-a",
        "get endpoints web -n shop", "get node/node-a", "get nodes -o wide",
    )  # fmt: skip
    def get(
        asked: Asked, what: What, namespace: Namespace = "", all_namespaces: All = False, node: OnNode = "",
        selector: Selector = "", watched: Watched = False,
    ) -> Exit:  # fmt: skip
        """Services, their endpoints and Nodes as the control plane has them, or as a node forwards them (--node).

        With --node, and at an agent's own socket, it ends with 1 where the node does not have the Service as it should
        be, or the agent has no stream and may not know. A replica shows what nodes have acknowledged; the kernel is
        read back at an agent's socket alone: there, `get svc NAME` shows what the agent wants, and what the kernel
        has. Whether anything is wrong with a node: `deltaplane status`.
        """
        if selector or watched:
            follow = "`deltaplane watch svc/NAME` follows changes."
            raise usage("get has neither --watch nor --selector", follow if watched else BY_LABEL)
        found = targets.parsed(what)
        if node and any(each.kind != names.SERVICE or not each.name for each in found):
            raise usage("--node goes with Services by name", "Such as: deltaplane get svc NAME --node=NODE")
        with asked.replica() as replica:
            spaces = {
                each: each.namespace or ("" if all_namespaces else _space(asked, each, namespace)) for each in found
            }
            answer, code, lacking = _all(asked, replica, spaces, node)
        if answer is not None:
            asked.show(answer)
        if lacking:
            raise Failed(Exit.NO, "; ".join(each.text for each in lacking), lacking[0].advice)
        return code


def _space(asked: Asked, target: Target, given: str) -> str:
    return "default" if target.kind == names.NODE else asked.namespace(given)


def _all(
    asked: Asked, replica: Replica, spaces: dict[Target, str], node: str
) -> tuple[Answer | None, Exit, list[Failed]]:
    """All of them in one answer, the worst exit code, and what there is not."""
    found: list[Shown] = []
    lacking: list[Failed] = []
    for target, space in spaces.items():
        try:
            found.append(shown(asked, replica, target, space, node))
        except Failed as failure:
            if failure.code is not Exit.NO:
                raise
            lacking.append(failure)
    if len(found) == 1 and len(spaces) == 1:
        return found[0][0], found[0][1], lacking
    blocks: list[Block] = [block for answer, _ in found for block in (*answer.blocks, Sentence(""))]
    data = [answer.data for answer, _ in found]
    several = Answer(blocks[:-1], data, [name for answer, _ in found for name in answer.names])
    return several if found else None, max((code for _, code in found), default=Exit.YES), lacking


def shown(asked: Asked, replica: Replica, target: Target, namespace: str, on: str) -> Shown:
    """Of one object, or of all of a kind."""
    kind, name = target.kind, target.name
    if kind == names.NODE and name:
        found = replica.ask("GetNode", pb.GetNodeRequest(node_name=name), pb.GetNodeResponse)
        return node.answer(found, name, time.time()), Exit.YES
    if name and not namespace:
        raise usage(f"{name} of all namespaces", "Name its namespace by -n instead of -A.")
    if name and on:
        return on_node(asked, replica, namespace, name, names.named(on))
    if name:
        return one(asked, replica, kind, namespace, name)
    views: dict[int, Callable[[list[views_pb2.ObjectView]], Answer]] = {
        names.SERVICE: objects.services, names.SLICE: objects.slices, names.NODE: objects.nodes,
    }  # fmt: skip
    found_all = listed(replica, kind, namespace)
    if found_all or kind == names.NODE:
        return views[kind](found_all), Exit.YES
    return objects.none(namespace, _elsewhere(replica, kind) if namespace else []), Exit.YES


def _elsewhere(replica: Replica, kind: int) -> list[str]:
    """Namespaces that have some of the kind: those on the first page of all."""
    page = replica.ask("ListObjects", pb.ListObjectsRequest(kind=kind, limit=PAGE), pb.ListObjectsResponse)  # type: ignore[arg-type]
    return list(dict.fromkeys(each.key.namespace for each in page.objects))


def on_node(asked: Asked, replica: Replica, namespace: str, name: str, on: str) -> Shown:
    """What a node makes of a Service; its own agent's socket is asked for what it wants and has."""
    request = pb.ResolveForNodeRequest(node_name=on, namespace=namespace, name=name)
    try:
        found = replica.ask("ResolveForNode", request, pb.ResolveForNodeResponse)
    except Failed as failure:
        if not asked.agent_answers(failure):
            raise
        return _here(asked, replica, namespace, name, on)
    return forwarding.answer(found, on, time.time())


def one(asked: Asked, replica: Replica, kind: int, namespace: str, name: str) -> Shown:
    """A Service, or its endpoints; by an agent's socket, what is in the kernel. Raises `Failed`."""
    key = objects_pb2.ObjectKey(kind=names.SERVICE, namespace=namespace, name=name)
    try:
        found = replica.ask("GetObject", pb.GetObjectRequest(key=key), pb.GetObjectResponse)
    except Failed as failure:
        if not asked.agent_answers(failure):
            raise
        return _here(asked, replica, namespace, name)
    return objects.service(found) if kind == names.SERVICE else objects.endpoints(found), Exit.YES


def _here(asked: Asked, replica: Replica, namespace: str, name: str, on: str = "") -> Shown:
    agent = asked.agent(replica, on)
    above = node.stale(agent, time.time())
    here = agent_pb2.GetForwardingRequest(namespace=namespace, name=name)
    found, code = forwarding.here(
        replica.ask("GetForwarding", here, agent_pb2.GetForwardingResponse), time.time(), agent.node_name
    )
    return Answer([*above, *found.blocks], found.data, found.names), Exit.NO if above else code


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
