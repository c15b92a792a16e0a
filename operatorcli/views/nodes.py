"""`deltaplane nodes` and what `status` says of nodes. Pure."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from deltaplane.v1 import inspection_pb2
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Column, Sentence, Table, columns
from operatorcli.text import count, listed, seconds, word
from operatorcli.views.failures import failed, next_steps

LOG = " (kubectl -n deltaplane-system logs)"
LAGS = 10.0  # seconds behind from which on a node is a problem, and not just about to acknowledge
STATES = inspection_pb2.NodeState
TONES = {
    inspection_pb2.NODE_STATE_LIVE: "good",
    inspection_pb2.NODE_STATE_SYNCING: "warn",
    inspection_pb2.NODE_STATE_MERGING: "warn",
    inspection_pb2.NODE_STATE_STALLED: "bad",
    inspection_pb2.NODE_STATE_DISCONNECTED: "bad",
}
HEADINGS = columns(
    "NODE*", "STATE", "MODE", "SENT>+", "RECEIVED>+", "APPLIED>", "BEHIND>", "FAILED>", "BRAKE", "VERSION", "PEER+",
    "REPLICA+", "SENT AT THE START+",
)  # fmt: skip
PENDING = columns("PENDING*", "PENDING+")


def answer(response: inspection_pb2.ListNodesResponse, now: float | None = None) -> Answer:
    """The table, and a sentence for each thing that is wrong. `now` in Unix seconds."""
    nodes = response.nodes
    table = Table(_headings(nodes), [_row(node, head(node, response)) for node in nodes], empty=NONE)
    blocks: list[Block] = [table, *(Sentence(text, "bad") for text in troubles(response, now))]
    return Answer(blocks, plain(response), [f"node/{node.node_name}" for node in nodes])


def _headings(nodes: Sequence[inspection_pb2.NodeStatus]) -> Sequence[Column]:
    """With PENDING without -o wide where a node has it."""
    return [*HEADINGS, PENDING[0 if any(node.HasField("pending") for node in nodes) else 1]]


def head(node: inspection_pb2.NodeStatus, response: inspection_pb2.ListNodesResponse) -> int:
    """The newest revision of the replica that the node follows; replicas count by themselves."""
    return node.head_rev or response.head_rev


NONE = "no node's agent is known"


def state(node: inspection_pb2.NodeStatus) -> Cell:
    """`live`, `stalled` and so on."""
    return Cell(word(STATES.Name(node.state), "NODE_STATE_"), TONES.get(node.state, ""))


REASONS = {
    "CONNECTED": "on connecting",
    "OPERATOR": "by a resync that was asked for",
    "GAP": "because a change was missing",
    "DIGEST_MISMATCH": "because its state was another one",
    "KERNEL_DRIFT": "because its kernel was another one",
    "MALFORMED": "because a message could not be read",
    "PARTIAL": "because a part was not enough",
}
EXTENTS = {"whole": "everything", "partial": "what differed", "delta": "the changes since", "nothing": "nothing"}


def brought_up(text: str) -> str:
    """How its state was brought up last: `everything, on connecting`, from `CONNECTED: whole, the whole state`."""
    reason, _, rest = text.partition(": ")
    extent, _, detail = rest.partition(", ")
    if reason not in REASONS or extent not in EXTENTS:
        return text
    said = f" ({detail})" if detail and extent != "whole" else ""
    return f"{EXTENTS[extent]}{said}, {REASONS[reason]}"


def failing(node: inspection_pb2.NodeStatus) -> int:
    """How many objects fail there."""
    return len(node.failed) + node.more_failed


def behind(node: inspection_pb2.NodeStatus) -> Cell:
    """How long it has lacked the head."""
    if not node.behind_seconds:
        return Cell("-", "faint")
    return Cell(seconds(node.behind_seconds), "bad" if node.behind_seconds > LAGS else "warn")


def pending(node: inspection_pb2.NodeStatus) -> Cell:
    """What the agent has received and its kernel does not have yet, where the agent says that it takes long."""
    if not node.HasField("pending"):
        return Cell("-", "faint")
    return Cell(f"{node.pending.rev}: {node.pending.text or 'the commit runs'}", "bad" if node.pending.text else "warn")


def _row(node: inspection_pb2.NodeStatus, head: int) -> Sequence[Cell | str]:
    number = failing(node)
    fallback = node.proxy_mode_asked not in {"", "auto", node.proxy_mode}
    return (
        node.node_name,
        state(node),
        Cell(node.proxy_mode, "warn" if fallback else ""),
        str(node.sent_rev),
        str(node.received_rev),
        Cell(str(node.applied_rev), "" if node.applied_rev >= head else "warn"),
        behind(node),
        Cell(str(number), "bad" if number else "faint"),
        Cell("held", "bad") if node.HasField("brake") else Cell("-", "faint"),
        node.agent_version,
        node.peer,
        node.server_id or "-",
        brought_up(node.brought_up),
        pending(node),
    )


def troubles(response: inspection_pb2.ListNodesResponse, now: float | None = None) -> Iterator[str]:
    """What is wrong, a sentence each, which says what to do. `now` in Unix seconds."""
    for node in response.nodes:
        yield from _troubles(node, time.time() if now is None else now)
    if response.without_agent:
        who = listed(list(response.without_agent))
        yield f"{who}: no agent has connected; see that one runs there, and its log{LOG}."
    for replica in response.replicas:
        if replica.error:
            yield f"The replica {replica.address} does not answer, so its nodes may be missing: {replica.error}."
        for each in replica.unfollowed if replica.address else ():  # of the one that answers, `status` shows all
            what = f"does not follow {each.resource}, so its {count(replica.connected_nodes, 'node')} may lack changes"
            yield f"The replica {replica.address} {what}: {each.error}."


def _troubles(node: inspection_pb2.NodeStatus, now: float) -> Iterator[str]:
    name = node.node_name
    if node.state == inspection_pb2.NODE_STATE_DISCONNECTED:
        yield from _disconnected(node, now)
    elif node.HasField("pending"):
        yield from _held_up(node, now)
    elif node.state == inspection_pb2.NODE_STATE_STALLED:
        yield f"{name}: connected, but makes no progress; see the agent's log and load{LOG}."
    elif node.behind_seconds > LAGS:
        yield f"{name}: {seconds(node.behind_seconds)} behind; see the agent's log and load{LOG}."
    for failure in node.failed:
        yield f"{name}: {failed(failure, now)}."
    if node.more_failed:
        yield f"{name}: {count(node.more_failed, 'more object')} failing: deltaplane get node {name}"
    yield from next_steps(node.failed, name)
    if node.HasField("brake"):
        yield (
            f"{name}: its safety brake holds a change that removes {node.brake.services_removed} of"
            f" {count(node.brake.services, 'Service')}; if that is right: deltaplane release-brake {name}"
        )
    if node.proxy_mode_asked not in {"", "auto", node.proxy_mode}:
        yield f"{name}: runs {node.proxy_mode} instead of {node.proxy_mode_asked}: {node.proxy_mode_reason}."


def _held_up(node: inspection_pb2.NodeStatus, now: float) -> Iterator[str]:
    """What the agent says of a commit that takes long. One that merely runs is a problem when the node lags."""
    name, pending = node.node_name, node.pending
    lasts = seconds(max(0.0, now - pending.since_unix_nano / 1e9))
    if pending.text:
        yield f"{name}: its kernel has taken no commit for {lasts}: {pending.text}."
        yield f"{name}: see the kernel's log (dmesg), what else changes its rules, and the agent's log{LOG}."
    elif node.behind_seconds > LAGS or node.state == inspection_pb2.NODE_STATE_STALLED:
        yield f"{name}: its commit of revision {pending.rev} takes long: {lasts} so far; see the node's load."


def _disconnected(node: inspection_pb2.NodeStatus, now: float) -> Iterator[str]:
    name, since = node.node_name, node.disconnected_unix_nano
    reason = f": {node.disconnected_reason}" if node.disconnected_reason else ""
    yield f"{name}: its agent is not connected{f' for {seconds(now - since / 1e9)}' if since else ''}{reason}."
    yield (
        f"{name}: see whether its agent runs{LOG}, and that firewalls and routes let port 50051 through in both"
        f" directions: what it sends, and what comes back. `deltaplane status --server=unix:///PATH` on {name} says"
        f" what it tries and its last error (PATH: the agent's --inspect-socket)."
    )


def states(nodes: Sequence[inspection_pb2.NodeStatus]) -> str:
    """`3 nodes: 2 live, 1 stalled`."""
    numbers = Counter(state(node).text for node in nodes)
    each = ", ".join(f"{number} {name}" for name, number in sorted(numbers.items(), key=lambda item: -item[1]))
    return f"{count(len(nodes), 'node')}{': ' if each else ''}{each}"


def slowest(nodes: Iterable[inspection_pb2.NodeStatus]) -> str:
    """`node-b (12s) and node-c (3.0s)`; empty where all have the head."""
    late = sorted((node for node in nodes if node.behind_seconds), key=lambda node: -node.behind_seconds)
    return listed([f"{node.node_name} ({seconds(node.behind_seconds)})" for node in late], 3)
