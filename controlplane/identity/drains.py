"""What an agent may ask besides its stream: when no node sends to an address any more. Pure; called by `door`.

It has no right of Kubernetes for it, so no role lets agents inspect. An agent asks for Pods of its node when they end;
what it can learn by it is when a Pod that its stream tells of is gone everywhere, and which nodes are late and why.
"""

from __future__ import annotations

from controlplane.identity import peer
from controlplane.identity.peer import Identity
from deltaplane.v1 import inspection_pb2 as pb

WAIT = "/deltaplane.v1.InspectionService/WaitApplied"
_MAY_SAY = {"removed_address", "timeout_seconds"}


def may(identity: Identity, account: str, method: str, request: object) -> bool:
    """Whether the peer is an agent, and asks just this: of all nodes, with no word of a peer's.

    `account`: as `peer.agent` takes it.
    """
    if method != WAIT or not isinstance(request, pb.WaitAppliedRequest) or peer.agent(identity, account) is not None:
        return False
    said = {field.name for field, _ in request.ListFields()}
    return bool(request.removed_address) and said <= _MAY_SAY
