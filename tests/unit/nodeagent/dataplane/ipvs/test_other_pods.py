"""Policy Local on the in-memory kernel: this node's pods, other nodes' pods, and clients outside."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from nodeagent.dataplane.ipvs.settings import Settings
from tests.fakes.ipvs.memory import MemoryKernel
from tests.fakes.ipvs.trace import Packet, trace
from tests.unit.nodeagent.dataplane.ipvs.cases import (
    EXTERNAL,
    NODE,
    NODE_ADDRESSES,
    local_policy,
    packed,
    service,
    started,
    targets,
)

OWN_POD, OTHER_POD, CLIENT = "10.180.1.77", "10.180.2.77", "203.0.113.2"


def ends(kernel: MemoryKernel, source: str, settings_interface: str = "") -> set[tuple[bytes, bool]]:
    """Where a connection to the external address may end, and whether it is masqueraded."""
    packet = Packet(packed(source), packed("203.0.113.9"), 6, 80, settings_interface)
    found = trace(kernel, packet, [packed(text) for text in NODE_ADDRESSES])
    return {(address, masqueraded) for address, _, masqueraded in found.ends}


def to(*numbers: int, masqueraded: bool) -> set[tuple[bytes, bool]]:
    return {(target.address, masqueraded) for target in targets(*numbers)}


def test_under_policy_local_other_nodes_pods_get_local_endpoints_or_are_dropped(kernel: MemoryKernel) -> None:
    """C1, C3; where all of the cluster CIDR is this node's, every pod is."""
    dataplane = started(kernel)
    here, nowhere = (service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(*n))) for n in ((1,), ()))
    dataplane.apply([here], NODE, complete=True)
    assert ends(kernel, OWN_POD) == to(1, 2, 3, masqueraded=False)
    assert ends(kernel, OTHER_POD) == ends(kernel, CLIENT) == to(1, masqueraded=False)
    dataplane.apply([nowhere])
    assert ends(kernel, OWN_POD) == to(1, 2, 3, masqueraded=False)
    assert ends(kernel, OTHER_POD) == ends(kernel, CLIENT) == set()
    dataplane.apply([], replace(NODE, pod_cidrs=("10.180.0.0/16",)))
    for made in (nowhere, here):
        dataplane.apply([made])
        assert ends(kernel, OWN_POD) == ends(kernel, OTHER_POD) == to(1, 2, 3, masqueraded=False)
    dataplane.apply([nowhere])
    assert ends(kernel, CLIENT) == set()


def test_other_pod_cidrs_of_the_node_write_one_chain_alone(kernel: MemoryKernel) -> None:
    """L3: no set and no virtual server; what stands already is not written again."""
    dataplane = started(kernel)
    web = service("web", local_policy(EXTERNAL, targets(1, 2, 3), ()))
    dataplane.apply([web], NODE, complete=True)
    before = {table: dict(chains) for table, chains in kernel.rules[4].tables.items()}
    done = dataplane.apply([], replace(NODE, pod_cidrs=("10.180.2.0/24", NODE.pod_cidrs[1])))
    assert (done.failed, done.elements) == ((), 0)
    changed = {name for table, chains in kernel.rules[4].tables.items() for name in chains
               if chains[name] != before[table].get(name)}  # fmt: skip
    assert changed == {"KUBE-IPVS-OUTSIDE"}
    assert ends(kernel, OTHER_POD) == to(1, 2, 3, masqueraded=False)
    assert ends(kernel, OWN_POD) == set()
    assert started(kernel).apply([web], replace(NODE, pod_cidrs=("10.180.2.0/24", NODE.pod_cidrs[1]))).messages == 0
    failed = dataplane.apply([], replace(NODE, pod_cidrs=("10.180.2.0/99",))).failed
    assert [one.code for one in failed] == ["INVALID_OBJECT"]
    assert dataplane.apply([], NODE).failed == ()


@pytest.mark.parametrize("made", [Settings(("10.180.1.0/24",), node_only=True), Settings(interface="cni0")])
def test_a_detector_of_this_nodes_pods_leaves_other_nodes_pods_outside(kernel: MemoryKernel, made: Settings) -> None:
    """I5: NodeCIDR and the interfaces, whatever the Node says of its pod CIDRs."""
    dataplane = started(kernel, made)
    dataplane.apply([service("web", local_policy(EXTERNAL, targets(1, 2), ()))], NODE, complete=True)
    assert ends(kernel, OWN_POD, "cni0") == to(1, 2, masqueraded=False)
    assert ends(kernel, OTHER_POD, "eth0") == set()
