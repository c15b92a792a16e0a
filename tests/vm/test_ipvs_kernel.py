"""The real kernel takes and holds what the kernel in memory does: the same states, the same pictures."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import NodeForwarding
from tests.unit.nodeagent.dataplane.ipvs.cases import STATES, expected, packed, picture
from tests.vm.ipvs_support import dataplane, wipe
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace


@pytest.fixture
def space(lab: Fabric) -> Namespace:
    found = lab.nodes[0].space
    wipe(found)
    return found


def addresses(lab: Fabric) -> NodeForwarding:
    node = lab.nodes[0]
    return NodeForwarding((packed(node.address(4)), packed(node.address(6))))


def test_every_state_after_every_other_and_after_a_restart(lab: Fabric, space: Namespace) -> None:
    node = addresses(lab)
    with dataplane(space) as made:
        for number, state in enumerate((*STATES, *reversed(STATES))):
            commit = made.apply(STATES[state], node, complete=True)
            assert commit.failed == (), state
            assert picture(made.driver.kernel) == expected(STATES[state], node), state
            if not number % 4:
                with dataplane(space) as again:
                    assert again.apply(STATES[state], node, complete=True).messages == 0, state
