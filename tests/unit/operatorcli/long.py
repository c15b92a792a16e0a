"""Messages with the longest names that Kubernetes allows, for tables that have to stay within 100 columns."""

from __future__ import annotations

from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

LABEL = "a-name-of-sixty-three-characters-which-is-the-most-that-one-has"  # 63
SUBDOMAIN = ".".join([LABEL, LABEL, LABEL, LABEL[:61]])  # 253: a Node's name
NOW = 1_800_000_000.0  # Unix seconds
assert (len(LABEL), len(SUBDOMAIN)) == (63, 253)


def service(name: str = LABEL, namespace: str = LABEL) -> objects_pb2.ObjectKey:
    return objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace=namespace, name=name)


def node(name: str, **fields: object) -> pb.NodeStatus:
    given = {"state": pb.NODE_STATE_LIVE, "proxy_mode": "nftables", "agent_version": "1.2.0"} | fields
    return pb.NodeStatus(node_name=name, **given)  # type: ignore[arg-type]


def failing(text: str = "no room in the set", key: objects_pb2.ObjectKey | None = None) -> delta_pb2.ObjectFailure:
    return delta_pb2.ObjectFailure(key=key or service(), code=delta_pb2.ERROR_CODE_KERNEL_REJECTED, text=text)


def widest(text: str) -> int:
    """Columns of the longest line."""
    return max(map(len, text.splitlines()))
