"""Answers of inspection in the words of the page: values for JSON, which the browser shows as text. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from google.protobuf.json_format import MessageToDict

from deltaplane.model import KIND_NAMES, Kind
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.v1 import objects_pb2, views_pb2

LAG_BOUNDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0)  # seconds; one more band is beyond, one for the disconnected
LATE = 1.0  # seconds: a node that lags for longer is not well
Row = dict[str, Any]


def node_row(status: pb.NodeStatus) -> Row:
    """One node in the table."""
    failed = len(status.failed) + status.more_failed
    return {
        "name": status.node_name,
        "state": state_name(status.state),
        "behind": round(status.behind_seconds, 1),
        "applied": status.applied_rev,
        "mode": status.proxy_mode,
        "failed": failed,
        "why": _why(status, failed),
        "note": _note(status),
    }


def _why(status: pb.NodeStatus, failed: int) -> str:
    """What is wrong with the node, for a person; empty: nothing is known."""
    if status.state == pb.NODE_STATE_DISCONNECTED:
        return status.disconnected_reason or "no stream"
    if status.HasField("brake"):
        return f"the safety brake holds a change that removes {status.brake.services_removed} Services"
    if failed:
        first = status.failed[0] if status.failed else None
        more = f" and {failed - 1} more" if failed > 1 else ""
        return f"{key_text(first.key)}: {first.text}{more}" if first else f"{failed} objects fail"
    if status.behind_seconds >= LATE:
        return f"has revision {status.applied_rev} of {status.head_rev}"
    return ""


def _note(status: pb.NodeStatus) -> str:
    """What is worth knowing of a node that is well."""
    if status.proxy_mode_asked in {"", "auto", status.proxy_mode}:
        return ""
    return f"{status.proxy_mode_asked} does not work here: {status.proxy_mode_reason}"


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
    """How many nodes lag by how much: one number for each of LAG_BOUNDS, one beyond, and one for the disconnected."""
    bands = [0] * (len(LAG_BOUNDS) + 2)
    for status in nodes:
        if status.state == pb.NODE_STATE_DISCONNECTED:
            bands[-1] += 1
        else:
            bands[sum(status.behind_seconds > bound for bound in LAG_BOUNDS)] += 1
    return bands


def moved(before: Mapping[str, Row], now: Mapping[str, Row]) -> tuple[list[Row], list[str]]:
    """Rows that are new or different, and the names that are gone."""
    changed = [row for name, row in now.items() if before.get(name) != row]
    return changed, [name for name in before if name not in now]


def overview(answer: pb.ListNodesResponse) -> Row:
    """What of all nodes is shown together."""
    states = Counter(state_name(each.state) for each in answer.nodes)
    if answer.without_agent:
        states["Without agent"] = len(answer.without_agent)
    replicas = [
        {"id": each.server_id, "where": each.address or "this one", "nodes": each.connected_nodes, "error": each.error}
        for each in answer.replicas
    ]
    return {"head": answer.head_rev, "states": states, "lag": lag_bands(answer.nodes), "replicas": replicas}


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


def holders(answer: pb.WaitAppliedResponse) -> Row:
    """Which nodes have the Service as it is, and why the others do not."""
    lacking = [
        {"node": each.node_name, "reason": pb.LackReason.Name(each.reason).removeprefix("LACK_REASON_"),
         "text": each.text}
        for each in answer.lacking
    ]  # fmt: skip
    return {
        "chosen": answer.chosen_nodes, "have": answer.nodes_applied, "lacking": lacking,
        "more": answer.more_lacking, "text": answer.text,
    }  # fmt: skip


def explanation(answer: pb.ExplainResponse) -> Row:
    """What becomes of a connection, decision by decision."""
    found = answer.explanation
    return {
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
        "failed": [f"{key_text(each.key)}: {each.text}" for each in answer.failed],
    }  # fmt: skip
