"""`trace`."""

from __future__ import annotations

from typing import Annotated

import typer

from deltaplane.v1 import agent_pb2
from operatorcli import aim, node_programs
from operatorcli.exits import Exit
from operatorcli.flags import Asked, length, usage, verb
from operatorcli.verbs.explain import Namespace, Source, Target
from operatorcli.views import trace as view

LONGEST = 60.0  # seconds
Timeout = Annotated[str, typer.Option("--timeout", metavar="TIME", help="How long to look for the packet: up to 60s.")]
Count = Annotated[
    int, typer.Option("--count", metavar="N", min=1, max=100, help="Follow N packets, one after another.")
]
Elsewhere = Annotated[str, typer.Option("--node", hidden=True)]
Chosen = Annotated[str, typer.Option("--endpoint", hidden=True)]
Wait = Annotated[bool, typer.Option("--wait", help="Send nothing: the client starts its connection meanwhile.")]


def add(app: typer.Typer) -> None:
    """Adds it."""

    @verb(
        app, "trace", "trace 10.244.1.7 10.96.0.10:80 --server=unix:///run/deltaplane/agent.sock",
        "trace 10.244.1.7 10.96.0.10:80 --count=12 --server=unix:///run/deltaplane/agent.sock",
        "trace 203.0.113.9 192.168.0.1:30080 --wait --server=unix:///run/deltaplane/agent.sock",
    )  # fmt: skip
    def trace(
        asked: Asked,
        source: Source,
        target: Target,
        timeout: Timeout = "5s",
        count: Count = 1,
        wait: Wait = False,
        namespace: Namespace = "",
        node: Elsewhere = "",
        endpoint: Chosen = "",
    ) -> Exit:
        """Follows one real packet through this node's kernel, and shows that beside what explain says.

        Runs as root on the node, with the agent's socket. Where FROM is the node itself or a pod on it, the packet is
        sent from there (a connection that is closed at once, or an empty datagram); else it is waited for. The kernel
        traces this flow only, and stops when this ends, however it ends. The kernel draws the endpoint of each
        connection, so no option chooses it: --count=12 counts what came of twelve packets at each endpoint, and an
        endpoint's own address as the target follows the way to that one, without the Service. Ends with 0 when all met
        what was said, and no connection failed.
        """
        if endpoint:
            raise usage(
                "trace has no --endpoint: the kernel draws the endpoint of each connection",
                f"--count=12 follows twelve packets and counts what came of them at each endpoint; {endpoint} in place"
                f" of {target} follows the way to that one, without the Service.",
            )
        seconds = length("timeout", timeout)
        if not asked.socket:
            where = f"on {node}, or in its agent's container" if node else "on the node"
            raise usage(
                "trace needs the agent's own socket",
                f"Run it as root {where}, with --server=unix:///PATH of the agent's --inspect-socket.",
            )
        if not 0 < seconds <= LONGEST:
            raise usage(f"--timeout={timeout} is not more than 0 and at most {LONGEST:g} s")
        with asked.replica() as agent:
            itself = asked.agent(agent, node)
            connection = aim.connection(asked, agent, source, target, namespace)
            here = agent_pb2.ExplainHereRequest(connection=connection)
            said = agent.ask("ExplainHere", here, agent_pb2.ExplainHereResponse)
        traced = list(node_programs.several(connection, seconds, count, wait=wait))
        answer, code = view.answer(said, traced, itself.proxy_mode)
        asked.show(answer)
        return code
