"""What an agent may ask besides its stream: when an address is gone, and nothing else."""

from __future__ import annotations

import pytest

from controlplane.identity import drains
from controlplane.identity.peer import Identity, User
from deltaplane.v1 import delta_pb2, objects_pb2
from deltaplane.v1 import inspection_pb2 as pb

ACCOUNT = "deltaplane-system/deltaplane-agent"
BY_TOKEN = Identity("agent", node="a", user=User("system:serviceaccount:deltaplane-system:deltaplane-agent"))
BY_CERTIFICATE = Identity("spiffe://x/node/a", node="a")
GONE = pb.WaitAppliedRequest(removed_address="10.0.0.1", timeout_seconds=5)


@pytest.mark.parametrize("identity", [BY_TOKEN, BY_CERTIFICATE], ids=["token", "certificate"])
def test_an_agent_may_ask_when_an_address_is_gone(identity: Identity) -> None:
    assert drains.may(identity, ACCOUNT, drains.WAIT, GONE)


@pytest.mark.parametrize(
    "identity",
    [
        Identity("other", node="a", user=User("system:serviceaccount:shop:web")),
        Identity("unbound", user=User("system:serviceaccount:deltaplane-system:deltaplane-agent")),
        Identity("spiffe://x/operator/ann", operator=True),
    ],
    ids=["another account on a node", "a token of no node", "no node's certificate"],
)
def test_who_is_no_agent_needs_the_right_for_it(identity: Identity) -> None:
    assert not drains.may(identity, ACCOUNT, drains.WAIT, GONE)


OBJECT = pb.ObjectVersion(key=objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="a", name="b"))


@pytest.mark.parametrize(
    "request_",
    [
        pb.WaitAppliedRequest(object=OBJECT),
        pb.WaitAppliedRequest(revision=pb.RevisionOf(rev=1)),
        pb.WaitAppliedRequest(removed_address=""),
        pb.WaitAppliedRequest(removed_address="10.0.0.1", this_replica=True),
        pb.WaitAppliedRequest(removed_address="10.0.0.1", nodes=pb.NodeSelection(names=["b"])),
        pb.WaitAppliedRequest(removed_address="10.0.0.1", quorum_percent=1),
        pb.WaitAppliedRequest(removed_address="10.0.0.1", versions=[delta_pb2.ResourceVersion(version="9")]),
        pb.GetStatusRequest(),
        None,
    ],
)
def test_an_agent_may_ask_nothing_else(request_: object) -> None:
    assert not drains.may(BY_TOKEN, ACCOUNT, drains.WAIT, request_)


def test_an_agent_may_call_no_other_method() -> None:
    assert not drains.may(BY_TOKEN, ACCOUNT, "/deltaplane.v1.InspectionService/Dump", GONE)
