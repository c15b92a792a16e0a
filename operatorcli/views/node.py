"""`deltaplane get node NAME`: one node's agent, and its Node object; and an agent asked by its own socket. Pure."""

from __future__ import annotations

from deltaplane.v1 import agent_pb2, inspection_pb2
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Sentence
from operatorcli.text import clock, count
from operatorcli.views import nodes
from operatorcli.views.basis import silent
from operatorcli.views.objects import table


def answer(found: inspection_pb2.GetNodeResponse, name: str) -> Answer:
    """What is known of it."""
    status, view = found.status, found.object
    facts = {"node": name}
    if found.HasField("status"):
        facts |= _agent(status)
    if found.HasField("object"):
        facts |= {
            "addresses": ", ".join(view.node.addresses),
            "zone": view.node.zone,
            "pod CIDRs": ", ".join(view.node.pod_cidrs),
            "leaving": "yes" if view.node.deleting or view.node.to_be_deleted_by_autoscaler else "",
        }
    blocks: list[Block] = [table(facts), *_missing(found), *silent(found.replicas)]
    if found.HasField("status"):
        wrong = nodes.troubles(inspection_pb2.ListNodesResponse(nodes=[status]))
        blocks += [Sentence(text, "bad") for text in wrong]
    return Answer(blocks, plain(found), [f"node/{name}"])


def _agent(status: inspection_pb2.NodeStatus) -> dict[str, str]:
    return {
        "agent": f"{nodes.state(status).text}, version {status.agent_version}, at {status.peer or '-'}",
        "mode": status.proxy_mode,
        "revisions": f"sent {status.sent_rev}, received {status.received_rev}, in the kernel {status.applied_rev}",
        "behind": nodes.behind(status).text if status.behind_seconds else "",
        "last word": f"{clock(status.acked_unix_nano)}" if status.acked_unix_nano else "",
        "brought up": status.brought_up,
    }


def _missing(found: inspection_pb2.GetNodeResponse) -> list[Sentence]:
    told = []
    if not found.HasField("status"):
        told.append(Sentence("No replica that answered knows an agent of this node: see that one runs there.", "bad"))
    if not found.HasField("object"):
        told.append(Sentence("The cluster has no such Node: see the agent's --hostname-override.", "bad"))
    return told


def here(found: agent_pb2.GetAgentResponse) -> tuple[Answer, Exit]:
    """An agent by itself. NO where something is wrong."""
    counts = found.counts
    facts = {
        "agent": f"of {found.node_name}, version {found.agent_version}",
        "mode": found.proxy_mode,
        "stream": (f"from {found.server}" if found.server else "open") if found.connected else "none",
        "revision": f"{found.rev}, of history {found.epoch[:8]}",
        "objects": f"{count(counts.services, 'Service')}, {count(counts.endpoint_slices, 'EndpointSlice')}",
    }
    wrong = [Sentence(text, "bad") for text in _wrong(found)]
    good = Sentence("The kernel has all of it, as far as the agent knows.", "good")
    return Answer([table(facts), *(wrong or [good])], plain(found), [f"node/{found.node_name}"]), (
        Exit.NO if wrong else Exit.YES
    )


def _wrong(found: agent_pb2.GetAgentResponse) -> list[str]:
    told = {
        "The agent has no stream: see its log, and whether it reaches the replicas.": not found.connected,
        "The kernel has not had a whole state since the start: see the agent's log.": not found.complete,
        "Something is not in the kernel yet: see the agent's log.": found.pending,
        "Others changed this agent's rules in the kernel, and they are not repaired yet.": found.drifted,
        "The safety brake holds a change (docs/operating.md, The safety brake).": found.HasField("brake"),
    }
    return [text for text, so in told.items() if so] + [nodes.failed(each) for each in found.failed]
