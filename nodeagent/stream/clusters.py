"""Whether a replica serves the cluster whose state this agent holds. Pure; called by the session at each Welcome."""

from __future__ import annotations

from deltaplane.names import is_cluster_id, shown

ANOTHER_CLUSTER = "ANOTHER_CLUSTER"  # of a Report


def another_cluster(offered: str, held: str) -> str:
    """Why no state of the cluster `offered` is taken beside that of `held`; empty where it may be, or is not known."""
    if offered and not is_cluster_id(offered):
        return f"Welcome has the cluster_id {shown(offered)}, which is none"
    if not (offered and held) or offered == held:
        return ""
    return (
        f"the replica serves cluster {offered}, and this node has the state of cluster {held}: correct --server, or, "
        f"where the node has moved, remove the files of --state-dir and start the agent anew"
    )
