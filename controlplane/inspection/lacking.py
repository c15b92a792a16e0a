"""Whether a node's kernel has what is waited for, and why not."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from controlplane.inspection.here import Here, unix_nano
from controlplane.session import Session
from deltaplane.model import Kind, ObjectKey
from deltaplane.v1 import delta_pb2
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.wording import unlabelled

Keys = frozenset[ObjectKey] | None
SOON = 0.5  # seconds in which an agent that nothing holds up is heard again


def has(here: Here, session: Session | None, rev: int, keys: Keys) -> bool:
    """Whether the node's kernel has this revision, and none of these objects fails there (None: nothing fails)."""
    if session is None or session.epoch != here.cluster.log.epoch:
        return False
    acked = session.acked
    if not acked.confirmed or acked.applied_rev < rev:
        return False
    return not (acked.failed or acked.more_failed) or failure(session, keys) is None


def failure(session: Session, keys: Keys) -> delta_pb2.ObjectFailure | None:
    """The failure on the node that matters here. Where an Ack has no room for all, the others may be of them."""
    for each in session.acked.failed:
        if keys is None or ObjectKey(Kind(each.key.kind), each.key.namespace, each.key.name) in keys:
            return each
    if session.acked.more_failed:
        text = f"{session.acked.more_failed} more objects fail on the node than its Ack has room for"
        return delta_pb2.ObjectFailure(code=delta_pb2.ERROR_CODE_RESOURCE_LIMIT, text=text)
    return None


def lacking(here: Here, name: str, rev: int | None, keys: Keys, text: str) -> pb.Lacking:
    """Why the node does not have it. `rev` None: the replica itself has not seen it; `text` says what it has."""
    session, now = here.session(name), time.monotonic()
    found = pb.Lacking(node_name=name, server_id=here.server_id)
    if session is None:
        return _without_agent(here, found)
    if session.closed is not None:
        return _disconnected(here, session, found, now)
    found.stream_seconds = max(0.0, now - session.since)
    if rev is None:
        found.reason, found.text = pb.LACK_REASON_REPLICA_BEHIND, text
    elif session.epoch == here.cluster.log.epoch and session.acked.confirmed and session.applied_rev >= rev:
        _failed(session, keys, found)
    elif session.brake is not None:
        brake = session.brake
        found.reason = pb.LACK_REASON_BRAKE
        number = f"{brake.services_removed} of {brake.services}"
        found.text = f"its safety brake holds a change that removes {number} Services"
    else:
        _behind(session, rev, now, found)
    return found


def all_lacking(here: Here, names: Iterable[str], rev: int | None, keys: Keys, text: str) -> pb.WaitAppliedResponse:
    """A message that has these alone: likewise for each node. Who waits for what does not come is told of all."""
    if rev is not None:
        return pb.WaitAppliedResponse(lacking=[lacking(here, name, rev, keys, text) for name in names])
    now, session_of, server, reason = time.monotonic(), here.nodes.get, here.server_id, pb.LACK_REASON_REPLICA_BEHIND
    found: list[Any] = []  # a message takes fields from a dict at half the cost of another message
    for name in names:
        session = session_of(name)
        if session is None or session.closed is not None:
            found.append(lacking(here, name, rev, keys, text))
            continue
        stream = max(0.0, now - session.since)
        found.append({"node_name": name, "server_id": server, "reason": reason, "text": text, "stream_seconds": stream})
    return pb.WaitAppliedResponse(lacking=found)


def _without_agent(here: Here, found: pb.Lacking) -> pb.Lacking:
    found.reason = pb.LACK_REASON_NO_AGENT
    if here.node(found.node_name) is None:
        found.text = "the cluster has no such Node, and no agent of this name is known"
    else:
        found.text = f"the cluster has the Node, and no replica that answered knows its agent{_leaving(here, found)}"
    return found


def _disconnected(here: Here, session: Session, found: pb.Lacking, now: float) -> pb.Lacking:
    left = here.nodes.left(session.node_name)
    found.reason = pb.LACK_REASON_DISCONNECTED
    found.disconnected_unix_nano = unix_nano(left, now)
    why = session.closed.detail if session.closed is not None else ""
    since = f"for {now - left:.1f} s" if left else "since just now"
    found.text = f"disconnected {since}: {why}" + _leaving(here, found)
    return found


def _leaving(here: Here, found: pb.Lacking) -> str:
    """Why no agent may come back."""
    node = here.node(found.node_name)
    if node is not None and node.deleting:
        return "; the Node is being deleted"
    if node is not None and node.to_be_deleted_by_autoscaler:
        return "; the autoscaler is about to delete the Node"
    missing = here.missing_labels(found.node_name)
    return f"; {unlabelled(missing)}; --except={found.node_name} leaves it out" if missing else ""


def _failed(session: Session, keys: Keys, found: pb.Lacking) -> None:
    failed = failure(session, keys)
    found.reason = pb.LACK_REASON_FAILED
    if failed is not None:
        found.failure.CopyFrom(failed)
        found.text = f"{delta_pb2.ErrorCode.Name(failed.code).removeprefix('ERROR_CODE_')}: {failed.text}"


def _behind(session: Session, rev: int, now: float, found: pb.Lacking) -> None:
    state = session.state(now)
    stalled = "; it makes no progress" if state == pb.NODE_STATE_STALLED else ""
    if state == pb.NODE_STATE_SYNCING or not session.acked.confirmed:
        found.reason, found.text = pb.LACK_REASON_SYNCING, f"it gets its first state{stalled}"
        return
    found.reason, found.behind_seconds = pb.LACK_REASON_BEHIND, session.behind_seconds(now)
    known = _held_up(session, now, found) or _unheard(session, rev, now, found)
    found.text = f"has revision {session.applied_rev} of {rev}, {found.behind_seconds:.1f} s behind{known}{stalled}"


def _held_up(session: Session, now: float, found: pb.Lacking) -> str:
    """What the agent says of a commit that takes long; empty: it says nothing of one."""
    pending = session.acked.pending
    if pending is None:
        return ""
    found.pending_rev, seconds = pending.rev, f"{now - pending.since:.1f} s"
    if pending.text:
        return f"; its kernel has taken no commit for {seconds}: {pending.text}"
    return f"; its commit of {pending.rev} takes long: {seconds} so far"


def _unheard(session: Session, rev: int, now: float, found: pb.Lacking) -> str:
    """Where the agent says nothing."""
    sent = f"; it was sent {session.sent_rev} so far" if session.sent_rev < rev else ""
    if min(found.behind_seconds, now - max(session.acked_at, session.since)) < SOON:
        acked = f"its last Ack came {now - session.acked_at:.1f} s ago" if session.acked_at else "no Ack has come"
        return f"; {acked}{sent}"
    return f": stopped, cut off or very busy{sent}"
