"""`deltaplane watch`: each change as it is sent to the agents, in a line. Pure."""

from __future__ import annotations

from deltaplane.v1 import inspection_pb2 as pb
from operatorcli.text import clock, count, key, word


def line(response: pb.TailChangesResponse) -> str:
    """When, which revision, what."""
    if response.lost_revs:
        what = count(response.lost_revs, "revision")
        return f"-  {what} no longer kept one by one: what follows up to {response.rev} is each object's last change"
    moment = response.event_unix_nano or response.emitted_unix_nano
    version = f"@{response.resource_version}" if response.resource_version else ""
    change = word(pb.ChangeKind.Name(response.change), "CHANGE_KIND_")
    parts = (
        clock(moment) if moment else "-",
        f"rev {response.rev}",
        change,
        f"{key(response.key)}{version}",
        response.text,
    )
    return "  ".join(filter(None, parts))
