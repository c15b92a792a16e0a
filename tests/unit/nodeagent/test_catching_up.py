"""A shared snapshot may be older than a node's kernel: only a mirror that has caught up is compared with it."""

from __future__ import annotations

import pytest

from controlplane.facts import Fact
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica


@pytest.fixture
def link() -> Link:
    """A new agent whose replica has a snapshot of an older revision ready, and a delta from there to head."""
    replica = Replica([objects.service(1)])
    first = Link(replica, Node())
    first.connect()
    first.step()
    added = objects.service(2)
    replica.put(Fact(added.key, added))
    link = Link(replica, Node())
    link.connect()
    link.deliver_up()
    link.pull()
    return link


def test_not_until_the_head_of_the_welcome_is_reached(link: Link) -> None:
    agent, current = link.node.agent, []
    while link.down:
        link.deliver_down()
        current.append((agent.collecting, agent.rev, agent.current))

    head = link.replica.log.head
    assert (False, head - 1, False) in current  # the snapshot is whole, and yet not what the replica has now
    assert current[-1] == (False, head, True)


def test_a_replica_that_has_nothing_more_to_send_is_not_waited_for(link: Link) -> None:
    """A heartbeat comes only then: the window may be full, and an Ack needs a commit."""
    link.down.pop()  # the delta
    while link.down:
        link.deliver_down()
    assert not link.node.agent.current

    assert link.stream is not None
    link.now += 60.0
    link.pull()
    while link.down:
        link.deliver_down()
    assert link.node.agent.current
