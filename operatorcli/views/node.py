"""`deltaplane get node NAME`: one node's agent, and its Node object; and an agent asked by its own socket. Pure."""

from __future__ import annotations

from deltaplane.advice import LOG, failed, handed_back, next_steps
from deltaplane.v1 import agent_pb2, inspection_pb2
from deltaplane.wording import unlabelled
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Sentence
from operatorcli.text import clock, count, since
from operatorcli.views import nodes
from operatorcli.views.basis import silent
from operatorcli.views.objects import table

CHAINS = 12  # of other programs that are named; all of them: -o json


def answer(found: inspection_pb2.GetNodeResponse, name: str, now: float) -> Answer:
    """What is known of it. `now` in Unix seconds."""
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
    blocks: list[Block] = [table(facts), *_missing(found, name), *silent(found.replicas)]
    if found.HasField("status"):
        wrong = nodes.troubles(inspection_pb2.ListNodesResponse(nodes=[status]), now)
        blocks += [Sentence(text, "bad") for text in wrong]
    return Answer(blocks, plain(found), [f"node/{name}"])


def _agent(status: inspection_pb2.NodeStatus) -> dict[str, str]:
    return {
        "agent": f"{nodes.state(status).text}, version {status.agent_version}, at {status.peer or '-'}",
        "mode": status.proxy_mode,
        "revisions": f"sent {status.sent_rev}, received {status.received_rev}, in the kernel {status.applied_rev}",
        "behind": nodes.behind(status).text if status.behind_seconds else "",
        "pending": nodes.pending(status).text if status.HasField("pending") else "",
        "last Ack": f"{clock(status.acked_unix_nano)}" if status.acked_unix_nano else "",
        "sent at the start": nodes.brought_up(status.brought_up),
    }


def _missing(found: inspection_pb2.GetNodeResponse, name: str) -> list[Sentence]:
    told = []
    if found.missing_labels and not found.HasField("status"):
        why = unlabelled(found.missing_labels)
        told.append(Sentence(f"No replica that answered knows an agent of this node; {why}.", "bad"))
        told.append(Sentence(f"{name}: {handed_back(name, found.missing_labels)}", "bad"))
    elif not found.HasField("status"):
        told.append(Sentence("No replica that answered knows an agent of this node: see that one runs there.", "bad"))
    if not found.HasField("object"):
        told.append(Sentence("The cluster has no such Node: see the agent's --hostname-override.", "bad"))
    return told


def here(found: agent_pb2.GetAgentResponse, now: float) -> tuple[Answer, Exit]:
    """An agent by itself. NO where something is wrong. `now` in Unix seconds."""
    counts = found.counts
    facts = {
        "agent": f"of {found.node_name}, version {found.agent_version}",
        "mode": found.proxy_mode,
        "stream": _stream(found, now),
        "replicas": ", ".join(found.servers),
        "last error": _last_error(found, now),
        "revision": f"{found.rev}, as the replica counts whose epoch is {found.epoch[:8]}" if found.rev else "none",
        "objects": f"{count(counts.services, 'Service')}, {count(counts.endpoint_slices, 'EndpointSlice')}",
        "other tables": foreign(found),
    }
    wrong = [Sentence(text, "bad") for text in _wrong(found, now)]
    good = Sentence("The kernel has all of it, as far as the agent knows.", "good")
    return Answer([table(facts), *(wrong or [good])], plain(found), [f"node/{found.node_name}"]), (
        Exit.NO if wrong else Exit.YES
    )


def foreign(found: agent_pb2.GetAgentResponse | agent_pb2.ExplainHereResponse) -> str:
    """kube-proxy's tables, and other programs' base chains: table (hook, chain: what it may do). Empty: none."""
    if found.foreign_error:
        return f"not read: {found.foreign_error}"
    told = [f"{', '.join(found.kube_proxy_tables)} (kube-proxy's own)"] if found.kube_proxy_tables else []
    told += [f"{each.table} ({each.hook}, {each.chain}: {', '.join(each.does)})" for each in found.foreign[:CHAINS]]
    if len(found.foreign) > CHAINS:
        told.append(f"and {len(found.foreign) - CHAINS} more chains")
    return f"{'; '.join(told)}; deltaplane trace shows whether a packet meets them" if told else ""


def stale(found: agent_pb2.GetAgentResponse, now: float) -> list[Block]:
    """Above what an agent says that has no stream. `now` in Unix seconds."""
    if found.connected:
        return []
    text = (
        f"{found.node_name}'s agent has had no stream for {since(found.since_unix_nano, now)}: what it wants is of"
        f" revision {found.rev}, and may be"
    )
    return [Sentence(f"{text} old (deltaplane status at this socket).", "bad"), Sentence("")]


def _stream(found: agent_pb2.GetAgentResponse, now: float) -> str:
    """Where it leads, since when; or that there is none, and what is tried."""
    lasts = f" for {since(found.since_unix_nano, now)}" if found.since_unix_nano else ""
    if found.connected:
        return f"{f'from {found.server}' if found.server else 'open'}{lasts}"
    return f"none{lasts}{f'; tried last: {found.server}' if found.server else ''}"


def _last_error(found: agent_pb2.GetAgentResponse, now: float) -> str:
    if not found.last_error:
        return ""
    ago = since(found.last_error_unix_nano, now)
    return f"{ago} ago, at {found.last_error_server}: {found.last_error}"


def _wrong(found: agent_pb2.GetAgentResponse, now: float) -> list[str]:
    told = {
        f"The agent has no stream. {_advice(found)}": not found.connected,
        f"The kernel has not had a whole state since the start: see the agent's log{LOG}.": not found.complete,
        f"Something is not in the kernel yet: see the agent's log{LOG}.": found.pending and not found.failed,
        "Others changed this agent's rules in the kernel, and they are not repaired yet.": found.drifted,
        f"The safety brake holds a change: deltaplane release-brake {found.node_name}": found.HasField("brake"),
    }
    failures = [f"{failed(each, now)}." for each in found.failed]
    return [text for text, so in told.items() if so] + failures + next_steps(found.failed, found.node_name)


def _advice(found: agent_pb2.GetAgentResponse) -> str:
    """By its last error. What times out is dropped on the way, there or back; what is refused has arrived."""
    error = found.last_error.lower()
    if any(word in error for word in ("nothing heard", "timed out", "no connection within")):
        return "Nothing comes back: see firewalls and routes in both directions, on this node and at the replica."
    if "refused" in error:
        return "Nothing listens there, or a firewall refuses: see the replica and --server."
    return f"See the last error, the agent's log{LOG}, and firewalls and routes in both directions."
