"""`deltaplane status`: one replica, what it follows, and whether its nodes have it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deltaplane.v1 import inspection_pb2
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import count, since
from operatorcli.views import nodes as node_view

FACTS = columns("", "*")
SHOWN = 10  # objects that cannot be used, by name
REPLICAS = columns("REPLICA", "ADDRESS*", "REVISION>", "DIGEST", "AGENTS>", "ERROR*")
SOURCES = columns("RESOURCE*", "FOLLOWED", "SINCE>", "VERSION", "ERROR*")


def answer(
    status: inspection_pb2.GetStatusResponse,
    listed: inspection_pb2.ListNodesResponse,
    where: str,
    now: float,
    apart: Iterable[inspection_pb2.ReplicaStatus] = (),
) -> tuple[Answer, Exit]:
    """`now` in Unix seconds; `apart`: what the function of this name found. NO where something is wrong."""
    wrong = [
        *node_view.unfollowed(status.sources, now),
        *_unusable(status),
        *node_view.troubles(listed, now),
        *map(_apart, apart),
    ]
    good = Sentence("Every node has the newest revision in its kernel.", "good")
    end: list[Block] = [Sentence(text, "bad") for text in wrong] or ([good] if _everywhere(listed) else [])
    blocks: list[Block] = [
        Table(FACTS, _facts(status, listed, where)),
        Sentence(""),
        *_replicas(status),
        _sources(status, now),
        Sentence(""),
        *end,
    ]
    data = {"status": plain(status), "nodes": plain(listed)["nodes"], "problems": wrong}
    return Answer(blocks, data, [f"replica/{status.server_id}"]), Exit.NO if wrong else Exit.YES


def differing(replicas: Sequence[inspection_pb2.ReplicaStatus]) -> list[inspection_pb2.ReplicaStatus]:
    """Replicas that answered and have another state than the first one, which was asked."""
    return [each for each in replicas[1:] if not each.error and each.digest != replicas[0].digest]


def apart(
    before: Sequence[inspection_pb2.ReplicaStatus], after: Sequence[inspection_pb2.ReplicaStatus]
) -> list[inspection_pb2.ReplicaStatus]:
    """Replicas that had another state than the one that was asked, at two looks, and took in nothing between them."""
    stood = {(each.server_id, each.epoch, each.head_rev) for each in differing(before)}
    found = [each for each in differing(after) if (each.server_id, each.epoch, each.head_rev) in stood]
    return [each for each in found if not each.unfollowed]  # those are told already


def _apart(replica: inspection_pb2.ReplicaStatus) -> str:
    """What is wrong with one of them."""
    whose = f"its {count(replica.connected_nodes, 'node')} may lack changes"
    return f"The replica {replica.address} keeps another state than the one that answers, so {whose}; see its log."


def _unusable(status: inspection_pb2.GetStatusResponse) -> Iterator[str]:
    """What cannot be used of the objects and files, the first ones by name."""
    for each in status.unusable[:SHOWN]:
        yield f"{each.where} cannot be used: {each.reason}"
    more = len(status.unusable) - SHOWN + status.more_unusable
    if more > 0:
        yield f"{count(more, 'more object')} cannot be used: deltaplane status -o json, or the replica's log."


def _everywhere(listed: inspection_pb2.ListNodesResponse) -> bool:
    return (
        bool(listed.nodes)
        and not listed.without_agent
        and all(node.applied_rev >= node_view.head(node, listed) for node in listed.nodes)
    )


def _facts(
    status: inspection_pb2.GetStatusResponse, listed: inspection_pb2.ListNodesResponse, where: str
) -> Sequence[Sequence[Cell | str]]:
    counts = status.counts
    objects = (
        count(counts.services, "Service"),
        count(counts.endpoint_slices, "EndpointSlice"),
        count(counts.nodes, "Node"),
        count(counts.service_cidrs, "ServiceCIDR"),
    )
    facts = {
        "replica": f"{status.server_id} at {where}{', version ' if status.version else ''}{status.version}",
        "revision": f"{status.head_rev}, as this replica counts (epoch {status.epoch[:8]})",
        "objects": ", ".join(objects),
        "agents": node_view.states(listed.nodes),
        "behind": node_view.slowest(listed.nodes),
    }
    return [(Cell(name, "strong"), value) for name, value in facts.items()]


def _replicas(status: inspection_pb2.GetStatusResponse) -> Sequence[Block]:
    """All of them, where there are several."""
    if len(status.replicas) < 2:
        return ()
    rows = [
        (
            each.server_id or "-",
            each.address or "the one that answers",
            str(each.head_rev),
            Cell(each.digest or "-", "" if each.digest == status.replicas[0].digest else "warn"),
            str(each.connected_nodes),
            Cell(each.error or "-", "bad" if each.error else "faint"),
        )
        for each in status.replicas
    ]
    return Table(REPLICAS, rows), Sentence("")


def _sources(status: inspection_pb2.GetStatusResponse, now: float) -> Table:
    rows = [
        (
            each.resource,
            Cell("yes", "good") if each.following else Cell("no", "bad"),
            since(each.since_unix_nano, now) if each.since_unix_nano else "-",
            each.resource_version or "-",
            each.error,
        )
        for each in status.sources
    ]
    return Table(SOURCES, rows, empty="nothing is followed")
