"""Answers of inspection in the words of the page: values for JSON, which the browser shows as text. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict

from deltaplane.advice import may_have_it, plain, troubles
from deltaplane.model import KIND_NAMES, Kind
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2, views_pb2

LAG_BOUNDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds; one more band is beyond, one for the disconnected
FRONTENDS = 3  # that are named of what a node has
NAMED = 5  # nodes of one advice, endpoints of one frontend
LATE = 1.0  # seconds: a node that lags for longer is not well
Row = dict[str, Any]


def node_row(status: pb.NodeStatus) -> Row:
    """One node in the table. It is the same at every look while nothing happens: `since` is a moment (Unix ms)."""
    found = list(troubles(status, None))
    return {
        "name": status.node_name,
        "state": state_name(status.state),
        "since": _since(status),
        "behind": round(status.behind_seconds, 1),
        "applied": status.applied_rev,
        "mode": status.proxy_mode,
        "failed": failing(status),
        "pending": status.HasField("pending"),
        "why": " ".join(each.text for each in found if not each.step and not each.minor) or _late(status),
        "note": " ".join(each.text for each in found if each.minor),
    }


def failing(status: pb.NodeStatus) -> int:
    """How many objects fail on the node."""
    return len(status.failed) + status.more_failed


def _since(status: pb.NodeStatus) -> int:
    """Since when it has no stream, or its kernel takes nothing; 0: neither, or not known."""
    return (status.disconnected_unix_nano or status.pending.since_unix_nano) // 1_000_000


def _late(status: pb.NodeStatus) -> str:
    """Of a node that is not late enough to be advised about."""
    if status.HasField("pending"):
        return f"its commit of revision {status.pending.rev} takes long"
    return f"has revision {status.applied_rev} of {status.head_rev}" if status.behind_seconds >= LATE else ""


def what_to_do(nodes: Iterable[pb.NodeStatus]) -> list[Row]:
    """Each advice once, with the nodes that it is for: the first by name. In commands NODE stands for several."""
    found: dict[str, list[str]] = {}
    alone: dict[str, str] = {}
    for status in nodes:
        of_all = (each for each in troubles(status, None, "NODE") if each.step)
        of_this = (each for each in troubles(status, None) if each.step)
        for general, own in zip(of_all, of_this, strict=True):
            found.setdefault(general.text, []).append(status.node_name)
            alone[general.text] = own.text
    return [
        {"text": text if names[1:] else alone[text], "nodes": names[:NAMED], "more": len(names[NAMED:])}
        for text, names in found.items()
    ]


def state_name(state: pb.NodeState.ValueType) -> str:
    """Live, for one; a later state by its number."""
    if state not in pb.NodeState.values():
        return str(state)
    return pb.NodeState.Name(state).removeprefix("NODE_STATE_").capitalize()


def key_text(key: objects_pb2.ObjectKey) -> str:
    """Service shop/web."""
    try:
        kind = KIND_NAMES[Kind(key.kind)]
    except ValueError:
        kind = f"kind {key.kind}"
    return f"{kind} {key.namespace}/{key.name}" if key.namespace else f"{kind} {key.name}"


def lag_bands(nodes: Iterable[pb.NodeStatus]) -> list[int]:
    """How many nodes lag by how much."""
    off = pb.NODE_STATE_DISCONNECTED
    return bands_of(None if status.state == off else status.behind_seconds for status in nodes)


def bands_of(lags: Iterable[float | None]) -> list[int]:
    """One number for each of LAG_BOUNDS, one beyond, and one for the disconnected (None)."""
    bands = [0] * (len(LAG_BOUNDS) + 2)
    for lag in lags:
        bands[-1 if lag is None else bisect_left(LAG_BOUNDS, lag)] += 1
    return bands


def moved(before: Mapping[str, Row], now: Mapping[str, Row]) -> tuple[list[Row], list[str]]:
    """Rows that are new or different, and the names that are gone."""
    changed = [row for name, row in now.items() if before.get(name) != row]
    return changed, [name for name in before if name not in now]


def overview(answer: pb.ListNodesResponse) -> Row:
    """What of all nodes is shown together."""
    states = Counter(state_name(each.state) for each in answer.nodes)
    states["Failing"] = sum(failing(each) > 0 for each in answer.nodes)
    if answer.without_agent:
        states["Without agent"] = len(answer.without_agent)
    replicas = [
        {"id": each.server_id, "where": each.address or "this one", "nodes": each.connected_nodes, "error": each.error}
        for each in answer.replicas
    ]
    return {"head": answer.head_rev, "states": states, "lag": lag_bands(answer.nodes), "replicas": replicas,
            "advice": what_to_do(answer.nodes)}  # fmt: skip


def service_view(answer: pb.GetObjectResponse) -> Row:
    """A Service and its endpoints."""
    view = answer.object.service
    endpoints = [_endpoint(each, piece.endpoint_slice) for piece in answer.endpoint_slices
                 for each in piece.endpoint_slice.endpoints]  # fmt: skip
    return {
        "name": key_text(answer.object.key),
        "type": view.type,
        "addresses": [*view.cluster_ips, *view.external_ips, *view.load_balancer_ips],
        "ports": [_port(each) for each in view.ports],
        "version": answer.object.resource_version,
        "problem": answer.object.problem,
        "endpoints": endpoints,
    }


def _port(port: views_pb2.ServicePortView) -> str:
    node = f", node port {port.node_port}" if port.node_port else ""
    return f"{port.port}/{port.protocol}{f' {port.name}' if port.name else ''}{node}"


def _endpoint(view: views_pb2.EndpointView, piece: views_pb2.EndpointSliceView) -> Row:
    conditions = [name for name in ("ready", "serving", "terminating") if getattr(view, name)]
    ports = ", ".join(f"{each.port}/{each.protocol}" for each in piece.ports)
    return {
        "address": view.address, "ports": ports, "conditions": ", ".join(conditions) or "not ready",
        "node": view.node, "zone": view.zone,
    }  # fmt: skip


def holders(answer: pb.WaitAppliedResponse, instead: Mapping[str, str]) -> Row:
    """Which nodes have the Service as it is, and why the others do not. `instead`: what these have, by name."""
    lacking = [
        {"node": each.node_name, "reason": pb.LackReason.Name(each.reason).removeprefix("LACK_REASON_"),
         "text": each.text, "instead": instead.get(each.node_name, "")}
        for each in answer.lacking
    ]  # fmt: skip
    return {
        "chosen": answer.chosen_nodes, "have": answer.nodes_applied, "lacking": lacking,
        "more": answer.more_lacking, "text": answer.text,
    }  # fmt: skip


def has_instead(answer: pb.ResolveForNodeResponse) -> str:
    """What a node forwards that lacks the newest form, by what it has acknowledged."""
    if answer.basis.silent_replicas:
        return f"not known: {may_have_it(answer.basis.silent_replicas)}"
    if not answer.basis.acknowledged:
        return f"not known: {answer.basis.text}" if answer.basis.text else "not known"
    if answer.failed:
        return "not known: its kernel refuses this, and has what it had before or less"
    views = answer.forwarding.frontends
    lines = [f"{each.frontend} to {_some(each.endpoints) or each.verdict.lower()}" for each in views[:FRONTENDS]]
    more = f"; {len(views) - FRONTENDS} more frontends" if len(views) > FRONTENDS else ""
    return "; ".join(lines) + more or "no such Service"


def _some(endpoints: Sequence[str]) -> str:
    more = f" and {len(endpoints) - NAMED} more" if len(endpoints) > NAMED else ""
    return ", ".join(endpoints[:NAMED]) + more


def explanation(answer: pb.ExplainResponse) -> Row:
    """What becomes of a connection, decision by decision."""
    found, silent = answer.explanation, answer.basis.silent_replicas
    return {
        "sure": answer.basis.acknowledged and not answer.basis.changed and not answer.failed and not silent,
        "silent": f"It is not known what the node has: {may_have_it(silent)}." if silent else "",
        "disconnected": answer.basis.disconnected_unix_nano // 1_000_000,
        "fate": views_pb2.Fate.Name(found.fate).removeprefix("FATE_").replace("_", " ").lower(),
        "service": key_text(found.service) if found.service.name else "",
        "frontend": found.frontend,
        "decisions": [[each.what, each.found, each.why] for each in found.decisions],
        "choices": [
            [each.endpoint, f"{each.probability:.1%}", each.node, each.zone, each.conditions,
             "leaves with the node's address" if each.masqueraded else ""]
            for each in found.choices
        ],
        "near": [[key_text(each.service), each.frontend, each.why] for each in found.near],
        "assumptions": list(found.assumptions),
        "basis": MessageToDict(answer.basis, preserving_proto_field_name=True),
        "failed": [f"{key_text(each.key)}: {plain(each)}" for each in answer.failed],
    }  # fmt: skip
