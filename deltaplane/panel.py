"""Which nodes report a traced change: a few of them, chosen anew for each trace. Both programs ask. Pure."""

from __future__ import annotations

from zlib import crc32

PANEL = 8  # nodes of a trace, about; of the others only the slowest two, late and failing ones are in it


def in_panel(traceparent: str, node: str, nodes: int) -> bool:
    """Whether the node reports this trace, where there are so many nodes.

    A hash of both decides, so the panel differs per trace. That of more nodes is a part of that of fewer.
    """
    return nodes <= PANEL or crc32(f"{traceparent}{node}".encode()) * nodes < PANEL << 32
