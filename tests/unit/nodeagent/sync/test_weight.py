"""Which messages may take long: large ones, and those about this node's own Node object."""

from __future__ import annotations

import pytest

from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2
from nodeagent.sync.weight import LIGHT_BYTES, heavy


def message(*ops: objects_pb2.Op) -> bytes:
    return pb.WatchResponse(delta=pb.Delta(ops=ops)).SerializeToString()


OF_THIS_NODE = objects_pb2.Op(node=objects_pb2.Node(name="n1"))
OF_ANOTHER = objects_pb2.Op(node=objects_pb2.Node(name="another"))
REMOVED = objects_pb2.Op(remove=objects_pb2.ObjectKey(kind=objects_pb2.KIND_NODE, name="n1"))
OF_A_SERVICE = objects_pb2.Op(remove=objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, name="n1"))


@pytest.mark.parametrize(
    ("data", "long"),
    [
        (message(), False),
        (message(OF_THIS_NODE), True),
        (message(REMOVED), True),
        (message(OF_ANOTHER), False),
        (message(OF_A_SERVICE), False),  # a Service of the node's name
        (b"\xff n1", False),  # no message: it is refused at once
        (bytes(LIGHT_BYTES + 1), True),
    ],
)
def test_a_message_is_long_by_its_size_or_where_it_is_about_this_node(data: bytes, *, long: bool) -> None:
    assert heavy(data, b"n1") is long
