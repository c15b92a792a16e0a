"""What is done while the Node object is unknown, and what is said of it."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import NodeForwarding
from nodeagent.node.addresses.node_ports import PATIENCE, NodePorts
from nodeagent.node.addresses.selection import parse

ONE, TWO, SIX = bytes([192, 0, 2, 1]), bytes([192, 0, 2, 2]), bytes.fromhex("20010db8" + "00" * 11 + "01")
LOOPBACK = bytes([127, 0, 0, 1])
CLOSED = NodeForwarding()


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    return sum(text in record.getMessage() for record in caplog.records)


def test_an_unknown_node_is_waited_for_and_then_its_node_ports_are_closed_l2(caplog: pytest.LogCaptureFixture) -> None:
    ports = NodePorts(parse(("primary",)))
    assert ports.choose((), (), 100.0) is None
    assert ports.deadline == 100.0 + PATIENCE
    assert ports.choose((), (), 100.0 + PATIENCE - 1) is None
    assert said(caplog, "closed") == 0
    for later in (0, 1, 2):
        assert ports.choose((), (), 100.0 + PATIENCE + later) == CLOSED
    assert said(caplog, "node ports are closed") == 1


@pytest.mark.parametrize("later", [1.0, PATIENCE + 1])
def test_a_node_that_comes_late_is_taken_at_once_l2(later: float) -> None:
    ports = NodePorts(parse(("primary",)))
    ports.choose((), (), 0.0)
    assert ports.choose((), (ONE, SIX), later) == NodeForwarding(tuple(sorted((ONE, SIX))))
    assert ports.deadline is None


def test_a_node_whose_addresses_go_keeps_its_node_ports_and_new_ones_are_followed_l2(
    caplog: pytest.LogCaptureFixture,
) -> None:
    ports = NodePorts(parse(("primary",)))
    assert ports.choose((), (ONE, SIX), 0.0) == NodeForwarding(tuple(sorted((ONE, SIX))))
    for now in (1.0, 1.0 + PATIENCE, 9.0 + PATIENCE):
        assert ports.choose((), (), now) is None
    assert ports.deadline is None
    assert said(caplog, "stay where they are") == 1
    assert ports.choose((), (TWO, SIX), 99.0) == NodeForwarding(tuple(sorted((TWO, SIX))))


def test_the_machine_matters_where_a_family_answers_everywhere_b4() -> None:
    """Tracked flows to IPv6 node ports can be found by the machine's own addresses alone where the Node has none."""
    ports, follows = NodePorts(parse(("primary",))), []
    for known in ((), (ONE,), (ONE, SIX)):
        ports.choose((), known, 0.0)
        follows.append(ports.follows_machine)
    assert follows == [False, True, False]


def test_networks_need_no_node_b3() -> None:
    ports = NodePorts(parse(("192.0.2.0/24", "2001:db8::/64")))
    assert ports.follows_machine
    assert ports.choose((ONE,), (), 0.0) == NodeForwarding((ONE,))
    assert ports.choose((ONE, TWO, SIX), (), 1.0) == NodeForwarding(tuple(sorted((ONE, TWO, SIX))))
    assert ports.deadline is None


def test_each_note_is_said_once_until_it_is_over_b5(caplog: pytest.LogCaptureFixture) -> None:
    ports = NodePorts(parse(("127.0.0.0/8", "::/0")))
    for local in ((LOOPBACK,), (LOOPBACK, ONE), (LOOPBACK,)):
        assert ports.choose(local, (), 0.0) == NodeForwarding(match_all_families=(6,))
    assert said(caplog, "127.0.0.1") == 1
    ports.choose((), (), 0.0)
    ports.choose((LOOPBACK,), (), 0.0)
    assert said(caplog, "127.0.0.1") == 2
