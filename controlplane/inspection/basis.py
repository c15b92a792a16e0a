"""Which state an answer about a node is of, and how that differs from the newest."""

from __future__ import annotations

import time
from collections.abc import Iterable

from controlplane.inspection.here import Here, unix_nano
from controlplane.session import Session
from deltaplane import moments
from deltaplane.model import ObjectKey
from deltaplane.v1 import inspection_pb2
from deltaplane.views import key_message

SHOWN = 50  # objects that have changed since


def acknowledged(here: Here, session: Session | None) -> int:
    """The revision of this replica that a node's kernel has; 0: none that is known."""
    if session is None or session.epoch != here.cluster.log.epoch or not session.acked.confirmed:
        return 0
    return session.applied_rev


def basis(
    here: Here, session: Session | None, changed: Iterable[ObjectKey] = (), unknown: Iterable[ObjectKey] = ()
) -> inspection_pb2.Basis:
    """What an answer about a node is of.

    `changed`: objects of the answer that have changed since; `unknown`: those of them whose form of then is not kept,
    so that the answer has them as they are now.
    """
    rev, now = acknowledged(here, session), time.monotonic()
    lost, since = list(dict.fromkeys(unknown)), list(dict.fromkeys(changed))
    found = inspection_pb2.Basis(
        server_id=here.server_id,
        epoch=here.epoch,
        rev=here.head if lost or not rev else rev,
        applied_rev=rev,
        acknowledged=bool(rev) and not lost,
        text=_doubt(rev, lost),
        head_rev=here.head,
        changed=map(key_message, since[:SHOWN]),
        more_changed=max(0, len(since) - SHOWN),
    )
    if session is not None:
        found.acked_unix_nano = unix_nano(session.acked_at, now)
    if session is not None and session.closed is not None:
        found.disconnected_unix_nano = unix_nano(here.nodes.left(session.node_name), now) or moments.unix_nano()
        found.disconnected_reason = session.closed.detail
    return found


def _doubt(rev: int, lost: list[ObjectKey]) -> str:
    """Why the answer is not of what the node has acknowledged."""
    if not rev:
        return "no agent of the node has acknowledged a state to this replica"
    if not lost:
        return ""
    more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
    has, form = ("has", "its form of then is") if len(lost) == 1 else ("have", "their forms of then are")
    return f"{', '.join(map(str, lost[:3]))}{more} {has} changed since revision {rev}, and {form} no longer kept"
