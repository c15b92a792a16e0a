"""`status`, `nodes`."""

from __future__ import annotations

import time

import typer

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.ask import Replica
from operatorcli.exits import Exit, Failed
from operatorcli.flags import Asked, verb
from operatorcli.output import Answer
from operatorcli.views import node as node_view
from operatorcli.views import nodes as nodes_view
from operatorcli.views import status as status_view

LOOK_AGAIN = 2.0  # seconds


def add(app: typer.Typer) -> None:
    """Adds them."""

    @verb(app, "status", "status", "status -o json")
    def status(asked: Asked) -> Exit:
        """The control plane at a glance: what it follows, its nodes, and what is wrong.

        Ends with 1 when something is wrong: a replica does not follow a kind of object or keeps another state than the
        one that answers, a node is gone, stalled or more than ten seconds behind, an object fails, or a safety brake
        holds. At an agent's own socket (--server=unix:///PATH) it shows that agent, and the base chains of other
        programs' nftables tables (families ip, ip6, inet) that may drop, reject, redirect or queue packets. Not looked
        at: iptables-legacy (`deltaplane doctor` does), rewriting of sources, chains named KUBE-, CNI- or DELTAPLANE-.
        """
        with asked.replica() as replica:
            answer, code = overview(asked, replica)
        asked.show(answer)
        return code

    @verb(app, "nodes", "nodes", "nodes -o wide")
    def nodes(asked: Asked) -> None:
        """Every node agent: what it was sent, what is in its kernel, and what fails there.

        Ends with 0 whatever fails there; `deltaplane status` ends with 1 then.
        """
        with asked.replica() as replica:
            found = replica.ask("ListNodes", pb.ListNodesRequest(), pb.ListNodesResponse)
        asked.show(nodes_view.answer(found, time.time()))


def overview(asked: Asked, replica: Replica) -> tuple[Answer, Exit]:
    """Of the control plane, or of the agent whose socket this is. Raises `Failed`."""
    try:
        found = replica.ask("GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse)
    except Failed as failure:
        if not asked.agent_answers(failure):
            raise
        return node_view.here(asked.agent(replica, foreign=True), time.time())
    listed = replica.ask("ListNodes", pb.ListNodesRequest(), pb.ListNodesResponse)
    apart = []
    if status_view.differing(found.replicas):  # a change under way, or a replica that lacks it for longer
        time.sleep(LOOK_AGAIN)
        again = replica.ask("GetStatus", pb.GetStatusRequest(), pb.GetStatusResponse)
        apart = status_view.apart(found.replicas, again.replicas)
    return status_view.answer(found, listed, replica.where, time.time(), apart)
