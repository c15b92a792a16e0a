"""A partial snapshot that does not fit is followed by a whole one, once; the safety brake and the journal know it."""

from __future__ import annotations

import pytest

from deltaplane.v1 import delta_pb2 as pb
from tests.sessions.link import Node, Replica
from tests.sessions.parting import MANY, Recorded, alter, away, fact, joined, service


@pytest.fixture
def link() -> Recorded:
    """An agent that has 400 Services, and whose replica has nothing else to send."""
    return joined()


def spoil(link: Recorded, change: str) -> None:
    """The next partial snapshot arrives otherwise than it was sent."""
    pull = link.pull

    def spoiling() -> None:
        pull()
        for index, data in enumerate(link.down):
            message = pb.WatchResponse.FromString(data)
            if message.HasField("snapshot_begin") and not message.snapshot_begin.partial:
                return
            if change == "digest" and message.HasField("snapshot_end"):
                message.snapshot_end.digest ^= 1
            elif change == "bucket" and message.HasField("snapshot_begin"):
                message.snapshot_begin.buckets[0] ^= 1
            elif change == "beyond" and message.HasField("snapshot_begin"):
                message.snapshot_begin.buckets.append(256)
            elif change == "unsaid" and message.HasField("snapshot_begin"):
                message.snapshot_begin.partial = False
            link.down[index] = message.SerializeToString()

    link.pull = spoiling  # type: ignore[method-assign]


@pytest.mark.parametrize("change", ["digest", "bucket", "beyond"])
def test_one_that_fails_is_followed_by_a_whole_one_and_counted(link: Recorded, change: str) -> None:
    spoil(link, change)
    alter(link, 7, 3)
    before = dict(link.node.kernel)
    link.step(10.0)
    kernel = dict(link.node.kernel)
    link.settle(60)

    assert kernel == before
    assert [begin.partial for begin in link.begins()] == [True, False]
    assert link.resumes() == {("DIGEST_MISMATCH", "partial"): 1, ("PARTIAL", "whole"): 1}
    assert link.replica.nodes.resyncs["PARTIAL"] == 1
    link.assert_same()


def test_after_the_whole_one_a_partial_one_is_asked_for_again(link: Recorded) -> None:
    spoil(link, "digest")
    alter(link, 7, 3)
    link.settle(60)
    del link.pull
    link.sent.clear()
    alter(link, 8, 3)
    link.settle(30)

    assert [begin.partial for begin in link.begins()] == [True]
    link.assert_same()


def test_an_agent_whose_partial_one_failed_asks_its_next_replica_for_the_whole(link: Recorded) -> None:
    spoil(link, "digest")
    alter(link, 7, 3)
    link.step(10.0)
    other = Recorded(Replica([*link.replica.store.objects(), service(MANY)]), link.node)
    link.cut()
    other.connect()
    other.step(1.0)

    assert [begin.partial for begin in other.begins()] == [False]


def test_a_snapshot_of_buckets_that_does_not_say_so_changes_nothing(link: Recorded) -> None:
    alter(link, 7, 3)
    spoil(link, "unsaid")
    before = dict(link.node.kernel)
    link.step(10.0)

    assert link.node.kernel == before
    assert len(link.node.agent.mirror.services) == MANY


# ------------------------------------------------------------ the safety brake, the journal


@pytest.fixture
def forty() -> Recorded:
    """An agent that has forty Services, in fewer than half of the buckets."""
    return joined(40)


def test_one_that_removes_most_services_is_held(forty: Recorded) -> None:
    away(forty, *(fact(n, None) for n in range(35)))
    forty.settle(120)

    assert all(begin.partial for begin in forty.begins())
    assert len(forty.begins()) > 1  # it is asked now and then whether they are back
    assert len(forty.node.kernel) == 40
    assert forty.stream is not None
    assert forty.stream.brake is not None
    assert (forty.stream.brake.services_removed, forty.stream.brake.services) == (35, 40)


def test_a_held_one_is_taken_when_an_operator_releases_it(forty: Recorded) -> None:
    away(forty, *(fact(n, None) for n in range(35)))
    forty.step(1.0)
    assert forty.stream is not None
    assert forty.stream.release_brake()
    forty.settle(40)

    assert len(forty.node.kernel) == 5
    assert all(begin.partial for begin in forty.begins())
    forty.assert_same()


def test_a_hold_ends_without_any_object_when_the_services_are_back(forty: Recorded) -> None:
    away(forty, *(fact(n, None) for n in range(35)))
    forty.step(1.0)
    forty.replica.put(*(fact(n, 0) for n in range(35)), now=forty.now)
    forty.sent.clear()
    forty.settle(40)

    assert [list(begin.buckets) for begin in forty.begins()] == [[]]
    assert not forty.node.agent.brake.holds
    forty.assert_same()


def test_the_journal_replays_one(link: Recorded) -> None:
    away(link, fact(1, 1), fact(2, None))
    link.step(1.0)
    link.replica.put(fact(3, 1), now=link.now)
    link.step(1.0)

    again = Node(link.node.journal, {})

    assert again.agent.rev == link.node.agent.rev
    assert again.agent.mirror.digest.buckets == link.replica.store.digest.buckets
    assert again.agent.restored == len(link.node.journal)


@pytest.mark.parametrize("lacking", [1, 2])
def test_a_journal_that_ends_within_one_goes_on_before_it(link: Recorded, lacking: int) -> None:
    before = len(link.node.journal)
    away(link, fact(1, 1))
    link.step(1.0)
    assert len(link.node.journal) == before + 3

    again = Node(link.node.journal[:-lacking], {})

    assert again.agent.restored == before
    assert again.agent.mirror.get(fact(1).key) == service(1)
    assert again.agent.rev == 1
