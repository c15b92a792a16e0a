"""What an operator is told of a replica, its nodes and their commits, and the one thing that may be asked for."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

import grpc
import pytest

from controlplane import progress
from controlplane.facts import Fact, Following
from controlplane.inflight import Applied
from controlplane.inspection.here import MAX_ERROR, SHOWN_FAILURES, SHOWN_UNUSABLE, node_status
from controlplane.inspection.tails import tail_commits
from controlplane.trace import NodeCommit
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import inspection_pb2 as inspection
from tests.sessions import objects
from tests.unit.controlplane.inspection.replica import Aborted, Asked, ack, failures


@pytest.fixture
def asked() -> Asked:
    return Asked()


async def test_the_status_is_the_state_and_its_revision(asked: Asked) -> None:
    store, log = asked.cluster.store, asked.cluster.log
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])

    status = await asked.status()

    assert (status.server_id, status.epoch, status.head_rev) == ("s1", log.epoch.hex(), log.head)
    assert status.digest == store.digest.value
    counts = status.counts
    assert (counts.services, counts.endpoint_slices, counts.nodes, counts.service_cidrs) == (2, 1, 0, 0)


async def test_only_open_streams_count_as_connected(asked: Asked) -> None:
    asked.node("a")
    asked.node("b").close("CANCELLED", "gone")
    assert (await asked.status()).connected_nodes == 1


async def test_a_source_that_cannot_be_followed_says_why_in_bounded_words(asked: Asked) -> None:
    asked.sources += [Following("services", 5, "", "77"), Following("nodes", 6, "x" * (MAX_ERROR + 1))]

    services, nodes = (await asked.status()).sources

    assert (services.resource, services.following, services.resource_version) == ("services", True, "77")
    assert (nodes.following, nodes.since_unix_nano, nodes.error) == (False, 6, "x" * MAX_ERROR)


async def test_what_cannot_be_used_is_named_with_its_reason_as_long_as_that_lasts(asked: Asked) -> None:
    for number in range(SHOWN_UNUSABLE + 2):
        asked.report.invalid(f"bad-{number}.yaml", "not YAML: " + "x" * MAX_ERROR)
    status = await asked.status()

    assert [each.where for each in status.unusable[:2]] == ["bad-0.yaml", "bad-1.yaml"]
    assert {len(each.reason) for each in status.unusable} == {MAX_ERROR}
    assert (len(status.unusable), status.more_unusable) == (SHOWN_UNUSABLE, 2)
    for number in range(SHOWN_UNUSABLE + 2):
        asked.report.valid(f"bad-{number}.yaml")
    assert not (await asked.status()).unusable


async def test_nodes_are_listed_by_name_with_what_they_said_of_themselves(asked: Asked) -> None:
    for name in ("b", "a"):
        asked.node(name)

    answer = await asked.listed()

    assert answer.head_rev == asked.cluster.log.head
    first, second = answer.nodes
    assert [first.node_name, second.node_name] == ["a", "b"]
    said = (first.agent_version, first.proxy_mode, first.proxy_mode_asked, first.proxy_mode_reason)
    assert said == ("1.2", "iptables", "ipvs", "no ip_vs")
    assert first.peer == "ipv4:10.0.0.1:1"


def test_a_nodes_revisions_are_what_was_sent_received_and_applied(asked: Asked) -> None:
    session = asked.node("a")
    asked.cluster.update([Fact(objects.service_key(2), objects.service(2))])
    asked.cluster.update([Fact(objects.service_key(3), objects.service(3))])
    session.next_message(0.0)
    ack(session, received_rev=2, applied_rev=1)

    shown = node_status(session, 0.0)

    assert (shown.sent_rev, shown.received_rev, shown.applied_rev) == (3, 2, 1)
    assert shown.state == inspection.NODE_STATE_LIVE
    assert shown.brought_up == "CONNECTED: whole, the whole state"


def test_failures_beyond_the_first_are_a_number(asked: Asked) -> None:
    session = asked.node("a")
    ack(session, received_rev=1, applied_rev=1, failed=failures(SHOWN_FAILURES + 2), more_failed=5)

    shown = node_status(session, 0.0)

    assert [failure.key.name for failure in shown.failed] == [str(number) for number in range(SHOWN_FAILURES)]
    assert shown.more_failed == 5 + 2


async def test_a_brake_is_shown_while_it_holds_and_is_released_where_it_does(asked: Asked) -> None:
    held, free = asked.node("held"), asked.node("free")
    ack(held, brake=pb.Brake(services_removed=35, services=40, since_unix_nano=9))
    ack(free, received_rev=1, applied_rev=1)

    assert [node.HasField("brake") for node in (await asked.listed()).nodes] == [False, True]
    assert await asked.release("") == ["held"]
    message = held.next_message(0.0)
    assert message is not None
    assert pb.WatchResponse.FromString(message).brake_release.since_unix_nano == 9
    assert free.next_message(0.0) is None


async def test_one_nodes_brake_is_released_without_the_others(asked: Asked) -> None:
    for name in ("a", "b"):
        ack(asked.node(name), brake=pb.Brake(services_removed=35, services=40))
    assert await asked.release("b") == ["b"]


async def test_a_node_that_never_came_is_an_error_that_says_what_to_do(asked: Asked) -> None:
    with pytest.raises(Aborted, match="node c has no agent at any replica: see ListNodes"):
        await asked.release("c")
    assert asked.context.status is grpc.StatusCode.NOT_FOUND


async def test_a_tail_has_the_commits_of_the_node_that_was_asked_for_and_changes_no_agents_pace(asked: Asked) -> None:
    one, two = asked.node("a"), asked.node("b")
    calls = asked.inspection.TailCommits(inspection.TailCommitsRequest(node_name="b"), asked.context)
    first = asyncio.ensure_future(anext(calls))
    await asked.context.began.wait()
    await asyncio.sleep(0)

    for session in (one, two):
        asked.progress.applied(session, Applied(pb.CommitReport(to_rev=3), (), 0, 0, 0), 1, nodes=2)
    commit = await first
    hastened = asked.hastened()
    await calls.aclose()  # type: ignore[attr-defined]

    assert (commit.node_name, commit.commit.to_rev) == ("b", 3)
    assert not hastened


async def test_a_tail_too_many_is_refused_and_says_why(asked: Asked) -> None:
    with ExitStack() as tails:
        while asked.progress._callers.fits("ipv4:10.0.0.9", progress.TAILS - len(asked.progress)):
            tails.enter_context(asked.progress.tail("ipv4:10.0.0.9"))
        calls = asked.inspection.TailCommits(inspection.TailCommitsRequest(), asked.context)
        with pytest.raises(Aborted, match="32 of this address"):
            await anext(calls)
    assert asked.context.status is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert asked.inspection._refused.counts == {"tails": 1}


async def test_commits_of_another_node_take_nothing_of_what_tails_are_told(asked: Asked) -> None:
    pauses = []

    async def pause() -> None:
        pauses.append(1)

    commits: asyncio.Queue[NodeCommit] = asyncio.Queue()
    for name in ("a", "b", "a"):
        commits.put_nowait(NodeCommit(name, 1, (), pb.CommitReport(to_rev=3), 0, 0, 1, failed=False))
    request = inspection.TailCommitsRequest(node_name="b", this_replica=True)
    told = tail_commits(asked.here, asked.peers, request, commits, pause)
    assert (await anext(told)).node_name == "b"
    async with asyncio.timeout(20):
        await commits.join()
    await told.aclose()
    assert len(pauses) == 1
