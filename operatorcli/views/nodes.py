"""`deltaplane nodes` and what `status` says of nodes. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from deltaplane import advice
from deltaplane.advice import LAGS, LOG
from deltaplane.v1 import inspection_pb2
from deltaplane.wording import unlabelled
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Column, Sentence, Table, columns
from operatorcli.text import count, listed, seconds, since, word

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


def answer(response: inspection_pb2.ListNodesResponse, now: float) -> Answer:
    """The table, and a sentence for each thing that is wrong. `now` in Unix seconds."""
    nodes = response.nodes
    table = Table(_headings(nodes), [_row(node, head(node, response)) for node in nodes], empty=NONE)
    own = [each for replica in response.replicas if not replica.address for each in replica.unfollowed]
    wrong = [*unfollowed(own, now), *troubles(response, now)]
    blocks: list[Block] = [table, *(Sentence(text, "bad") for text in wrong)]
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


def silences(response: inspection_pb2.ListNodesResponse) -> Iterator[str]:
    """Replicas that did not answer."""
    for replica in response.replicas:
        if replica.error:
            yield f"The replica {replica.address} does not answer, so its nodes may be missing: {replica.error}."


def no_lag(node: inspection_pb2.NodeStatus) -> bool:
    """It has no stream and lacks nothing that is known, so nobody knows how far it is behind."""
    return node.state == inspection_pb2.NODE_STATE_DISCONNECTED and not node.behind_seconds


def troubles(response: inspection_pb2.ListNodesResponse, now: float) -> Iterator[str]:
    """What is wrong, a sentence each, which says what to do. `now` in Unix seconds."""
    for node in response.nodes:
        found = advice.troubles(node, now)
        yield from (f"{node.node_name}: {trouble.text}" for trouble in found)
    yield from _without_agent(response)
    yield from silences(response)
    for replica in response.replicas:
        if replica.no_agents:
            yield f"The replica {replica.address or 'that answers'} takes no agents: {replica.no_agents}; see its log."
            continue
        for each in replica.unfollowed if replica.address else ():  # of the one that answers, `status` shows all
            what = f"does not follow {each.resource}, so its {count(replica.connected_nodes, 'node')} may lack changes"
            yield f"The replica {replica.address} {what}: {each.error}."


def _without_agent(response: inspection_pb2.ListNodesResponse) -> Iterator[str]:
    """Nodes of which no replica knows an agent: those that may have none, by the labels that they lack, and others."""
    lacking = {each.node_name: tuple(each.missing_labels) for each in response.without_labels}
    silent = [replica.address for replica in response.replicas if replica.error]
    never = f"no agent has connected; see that one runs there, and its log{LOG}"
    why = f"{advice.may_have_it(silent)}; no replica that answered knows an agent" if silent else never
    if unknown := [name for name in response.without_agent if name not in lacking]:
        yield f"{listed(unknown)}: {why}."
    for missing in dict.fromkeys(lacking.values()):
        names = [name for name, labels in lacking.items() if labels == missing]
        name = names[0] if len(names) == 1 else "NODE"
        yield f"{listed(names)}: no agent has connected; {unlabelled(missing)}."
        yield f"{listed(names)}: {advice.handed_back(name, missing)}"


def unfollowed(sources: Iterable[inspection_pb2.SourceStatus], now: float) -> Iterator[str]:
    """What the replica that answers does not follow, since when, why, and what to do: one sentence, or none."""
    lost = [each for each in sources if not each.following]
    if lost:
        names = listed([each.resource for each in lost])
        age = since(min(each.since_unix_nano for each in lost), now)
        yield (
            f"{names} have not been followed for {age}, so changes do not arrive, and nodes keep what they have: "
            f"{lost[0].error}. Mend what this names (the API server, the way to it, a right, a folder); the replica "
            "tries again by itself."
        )


def states(nodes: Sequence[inspection_pb2.NodeStatus]) -> str:
    """`3 nodes: 2 live, 1 stalled`."""
    numbers = Counter(state(node).text for node in nodes)
    each = ", ".join(f"{number} {name}" for name, number in sorted(numbers.items(), key=lambda item: -item[1]))
    return f"{count(len(nodes), 'node')}{': ' if each else ''}{each}"


def slowest(nodes: Iterable[inspection_pb2.NodeStatus]) -> str:
    """`node-b (12s) and node-c (3.0s), and of 2 disconnected nodes it is not known`; `none` where all have the head."""
    nodes = list(nodes)
    late = sorted((node for node in nodes if node.behind_seconds), key=lambda node: -node.behind_seconds)
    found, off = (
        listed([f"{node.node_name} ({seconds(node.behind_seconds)})" for node in late], 3),
        sum(map(no_lag, nodes)),
    )
    unknown = f"of {count(off, 'disconnected node')} it is not known" if off else ""
    return ", and ".join(filter(None, (found, unknown))) or "none"
