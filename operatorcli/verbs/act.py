"""`release-brake`, `resync`: the two verbs that change something."""

from __future__ import annotations

from typing import Annotated

import typer

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import names
from operatorcli.exits import Exit
from operatorcli.flags import Asked, usage, verb
from operatorcli.output import Answer, plain
from operatorcli.tables import Sentence
from operatorcli.text import listed
from operatorcli.views.basis import silent

MaybeNode = Annotated[str, typer.Argument(metavar="NODE", help="The node.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="Every node whose brake holds.")]
OneNode = Annotated[str, typer.Argument(metavar="NODE")]


def add(app: typer.Typer) -> None:
    """Adds them."""

    @verb(app, "release-brake", "release-brake node-a", "release-brake --all")
    def release_brake(asked: Asked, node: MaybeNode = "", all_nodes: All = False) -> Exit:
        """Lets an agent take the change that its safety brake holds: what it removes is removed.

        Ends with 1 where none holds. It needs the right `update` on `brakes` of deltaplane.dev (ClusterRole
        deltaplane-operator).
        """
        if bool(node) == all_nodes:
            raise usage("name a node, or say --all", "`deltaplane nodes` shows whose brake holds.")
        request = pb.ReleaseBrakeRequest(node_name=names.named(node) if node else "")
        with asked.replica() as replica:
            found = replica.ask("ReleaseBrake", request, pb.ReleaseBrakeResponse)
        told = list(found.nodes)
        text = f"{listed(told)}: released." if told else "No brake holds there, so nothing was released."
        asked.show(Answer([Sentence(text), *silent(found.replicas)], plain(found), [f"node/{each}" for each in told]))
        return Exit.YES if told else Exit.NO

    @verb(app, "resync", "resync node-a")
    def resync(asked: Asked, node: OneNode) -> None:
        """Has an agent take the whole state anew and compare it with its kernel; connections go on.

        It needs the right `create` on `resyncs` of deltaplane.dev (ClusterRole deltaplane-operator).
        """
        request = pb.ForceResyncRequest(node_name=names.named(node))
        with asked.replica() as replica:
            found = replica.ask("ForceResync", request, pb.ForceResyncResponse)
        text = f"{node} was told to; `deltaplane get node {node}` shows how it was brought up."
        asked.show(Answer([Sentence(text), *silent(found.replicas)], plain(found), [f"node/{node}"]))
