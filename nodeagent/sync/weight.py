"""Whether a message is light: handled in some milliseconds whatever the cluster's size. Pure; called by the agent."""

from __future__ import annotations

from google.protobuf.message import DecodeError

from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2

LIGHT_BYTES = 4096  # some tens of changes at most


def heavy(data: bytes, node: bytes) -> bool:
    """By its size, or because it speaks of this node itself: then every Service may mean something else here."""
    return len(data) > LIGHT_BYTES or (node in data and _of_nodes(data))


def _of_nodes(data: bytes) -> bool:
    try:
        ops = pb.WatchResponse.FromString(data).delta.ops
    except DecodeError:
        return False
    return any(op.WhichOneof("op") == "node" or op.remove.kind == objects_pb2.KIND_NODE for op in ops)
