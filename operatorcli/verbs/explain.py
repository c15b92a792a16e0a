"""`explain`, `diff`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from deltaplane.v1 import agent_pb2, views_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import aim, names
from operatorcli.ask import Replica
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, usage, verb
from operatorcli.output import Answer
from operatorcli.views import diff as diff_view
from operatorcli.views import explain as explain_view
from operatorcli.views.explain import Told
from operatorcli.views.node import stale

Source = Annotated[str, typer.Argument(metavar="FROM", help="The client's address: a pod's, a node's or any other.")]
Target = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS:PORT[/PROTO]",
        help="Where it connects to; TCP if not said. Also svc/NAME[:PORT]: a Service's cluster IP, and its only port.",
    ),
]
OnNode = Annotated[str, typer.Option("--node", metavar="NODE", help="The node whose kernel sees the connection first.")]
Cidrs = Annotated[
    str, typer.Option("--cluster-cidr", metavar="CIDR[,CIDR]", help="The agents' --cluster-cidr, if they have one.")
]
One = Annotated[str, typer.Argument(metavar="NODE")]
Other = Annotated[str, typer.Argument(metavar="NODE")]
Only = Annotated[str, typer.Option("--service", metavar="svc/NAME", help="Only this Service.")]
Namespace = Annotated[
    str, typer.Option("--namespace", "-n", metavar="NAME", help="Of the Service, where one is named.")
]


def add(app: typer.Typer) -> None:
    """Adds them."""

    @verb(
        app, "explain", "explain 10.244.1.7 10.96.0.10:80 --node=node-a",
        "explain 10.244.1.7 svc/shop/web --node=node-a",
        "explain 203.0.113.9 10.96.0.20:5432/TCP --node=node-b -o json",
    )  # fmt: skip
    def explain(
        asked: Asked, source: Source, target: Target, node: OnNode = "", cluster_cidr: Cidrs = "",
        namespace: Namespace = "",
    ) -> Exit:  # fmt: skip
        """What becomes of a new connection at a node, and why; where no Service has the address, which are near.

        Ends with 0 when it reaches an endpoint, and the node has the newest of what that is made of, else with 1. At
        an agent's own socket (--server=unix:///PATH) the answer is compared with what is in the kernel, and names other
        programs' rules that the packet may meet, which decide nothing here; it is no yes while the agent has no stream.
        """
        if not node and not asked.socket:
            raise usage(
                "--node is missing",
                "Nodes decide for themselves: name one by --node=NODE; `deltaplane nodes` lists them.",
            )
        with asked.replica() as replica:
            connection = aim.connection(asked, replica, source, target, namespace)
            cidrs = [cidr for cidr in cluster_cidr.split(",") if cidr]
            answer, code = _at(asked, replica, connection, node, cidrs) if node else _here(asked, replica, connection)
        asked.show(answer)
        return code

    @verb(app, "diff", "diff node-a node-b", "diff node-a node-b --service=svc/shop/web")
    def diff(asked: Asked, node: One, other: Other, service: Only = "", namespace: Namespace = "") -> Exit:
        """In what two nodes differ: their agents, and what each forwards. Ends with 1 when they do."""
        request = pb.DiffRequest(node_name=names.named(node), other_node_name=names.named(other))
        if service:
            key = names.key(service, asked.namespace(namespace))
            request.namespace, request.name = key.namespace, key.name
        with asked.replica() as replica:
            answer, code = diff_view.answer(replica.ask("Diff", request, pb.DiffResponse), node, other, time.time())
        asked.show(answer)
        return code


def _at(asked: Asked, replica: Replica, connection: views_pb2.Connection, node: str, cidrs: list[str]) -> Told:
    """At a node, by a replica; the node's own agent, whose socket is asked, answers itself."""
    request = pb.ExplainRequest(node_name=names.named(node), connection=connection, cluster_cidrs=cidrs)
    try:
        return explain_view.answer(replica.ask("Explain", request, pb.ExplainResponse), node, time.time())
    except Failed as failure:
        if not asked.agent_answers(failure):
            raise
    return _here(asked, replica, connection, node)


def _here(asked: Asked, agent: Replica, connection: views_pb2.Connection, node: str = "") -> Told:
    itself = asked.agent(agent, node)
    above = stale(itself, time.time())
    here = agent_pb2.ExplainHereRequest(connection=connection)
    found, code = explain_view.here(agent.ask("ExplainHere", here, agent_pb2.ExplainHereResponse), itself)
    return Answer([*above, *found.blocks], found.data, found.names), Exit.NO if above else code
