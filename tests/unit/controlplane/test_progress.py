"""What nodes have in their kernels reaches traces and whoever tails commits; a slow tail loses its oldest alone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import pytest

from controlplane import progress as progress_module
from controlplane.inflight import Applied
from controlplane.log import Log
from controlplane.progress import TOLD, TOLD_AT_ONCE, Progress, TooManyTails, to_message
from controlplane.session import Session
from controlplane.snapshot import Snapshots
from controlplane.store import Store
from controlplane.trace import NodeCommit, NoTracing
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.v1 import objects_pb2


class Traced(NoTracing):
    listens = True

    def __init__(self) -> None:
        self.commits: list[NodeCommit] = []

    def committed(self, commit: NodeCommit) -> None:
        self.commits.append(commit)


def stream(name: str, *, failing: bool = False) -> Session:
    store, log = Store(), Log()
    session = Session(store, log, Snapshots(store, log))
    session.on_message(pb.WatchRequest(hello=pb.Hello(node_name=name, protocol_min=1, protocol_max=1)), 0.0)
    while session.next_message(0.0) is not None:
        pass
    key = objects_pb2.ObjectKey(kind=objects_pb2.KIND_SERVICE, namespace="a", name="b")
    failed = [pb.ObjectFailure(key=key, code=pb.ERROR_CODE_KERNEL_REJECTED)] if failing else []
    session.on_message(pb.WatchRequest(ack=pb.Ack(failed=failed)), 0.0)
    return session


def applied(rev: int) -> Applied:
    report = pb.CommitReport(to_rev=rev, queued_ns=1, resolve_ns=2, commit_ns=3, ack_delay_ns=4)
    cause = pb.Cause(event_unix_nano=100)
    return Applied(report, (cause,), 0, emitted_unix_nano=200, sent_unix_nano=300)


@pytest.fixture
def traced() -> Traced:
    return Traced()


@pytest.fixture
def progress(traced: Traced) -> Progress:
    return Progress(traced)


@asynccontextmanager
async def tailing(progress: Progress) -> AsyncIterator[AsyncIterator[NodeCommit]]:
    """A tail that hears of everything from now on."""
    with progress.tail() as queue:

        async def commits() -> AsyncIterator[NodeCommit]:
            while True:
                yield await queue.get()

        yield commits()


def test_a_commit_is_traced_with_its_times_and_its_node(progress: Progress, traced: Traced) -> None:
    progress.applied(stream("n1"), applied(7), 400, nodes=3)

    (commit,) = traced.commits
    assert (commit.node, commit.nodes, commit.report.to_rev, commit.failed) == ("n1", 3, 7, False)
    assert (commit.emitted_ns, commit.sent_ns, commit.acked_ns) == (200, 300, 400)
    assert [cause.event_unix_nano for cause in commit.causes] == [100]


def test_a_commit_after_which_an_object_fails_says_so(progress: Progress, traced: Traced) -> None:
    progress.applied(stream("n1", failing=True), applied(7), 400, nodes=1)
    assert [commit.failed for commit in traced.commits] == [True]


async def test_every_tail_hears_of_every_commit_from_its_beginning_on(progress: Progress) -> None:
    session = stream("n1")
    progress.applied(session, applied(1), 400, nodes=1)
    async with tailing(progress) as one:
        progress.applied(session, applied(2), 400, nodes=1)
        async with tailing(progress) as two:
            progress.applied(session, applied(3), 400, nodes=1)
            assert [(await anext(one)).report.to_rev for _ in range(2)] == [2, 3]
            assert (await anext(two)).report.to_rev == 3


async def test_a_tail_that_lags_loses_the_oldest_and_no_other_tail_does(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_module, "BACKLOG", 2)
    session = stream("n1")
    async with tailing(progress) as slow:
        for rev in (1, 2, 3, 4):
            progress.applied(session, applied(rev), 400, nodes=1)
        assert [(await anext(slow)).report.to_rev for _ in range(2)] == [3, 4]


async def test_a_tail_that_has_ended_is_fed_no_more(progress: Progress) -> None:
    async with tailing(progress):
        assert len(progress) == 1
    assert len(progress) == 0


def test_one_address_does_not_take_all_tails_and_what_it_gives_back_is_free(progress: Progress) -> None:
    with ExitStack() as tails:
        for _ in range(32):
            tails.enter_context(progress.tail("a"))
        with pytest.raises(TooManyTails, match="32 tails are open, 32 of this address"):
            tails.enter_context(progress.tail("a"))
        tails.enter_context(progress.tail("b"))
        assert (len(progress), progress.tails_refused) == (33, 1)
    with progress.tail("a"):
        assert len(progress) == 1


async def test_many_tails_share_what_they_are_told_in_a_second_and_a_few_commits_wait_for_nothing(
    progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, slept = 0.0, 0.0

    async def sleep(seconds: float) -> None:
        nonlocal now, slept
        now, slept = now + seconds, slept + seconds

    monkeypatch.setattr("controlplane.progress.time.monotonic", lambda: now)
    monkeypatch.setattr("controlplane.progress.asyncio.sleep", sleep)
    for _ in range(int(TOLD_AT_ONCE)):
        await progress.pause()
    assert slept == 0.0
    for _ in range(int(TOLD)):
        await progress.pause()
    assert 1.0 - progress_module.NAP <= slept <= 1.0


def commit(*events: int, acked: int = 1000) -> NodeCommit:
    causes = tuple(pb.Cause(event_unix_nano=event) for event in events)
    report = pb.CommitReport(to_rev=7, queued_ns=10, resolve_ns=20, commit_ns=30, ack_delay_ns=40)
    return NodeCommit("n1", 1, causes, report, emitted_ns=0, sent_ns=500, acked_ns=acked, failed=False)


def test_durations_count_from_the_earliest_event() -> None:
    message = to_message(commit(300, 0, 200))

    assert (message.node_name, message.commit.to_rev, len(message.causes)) == ("n1", 7, 3)
    assert message.event_to_ack_ns == 800
    assert message.event_to_commit_ns == 500 + 200 + 60 - 200  # half of the 400 ns on the way, then 60 on the node


def test_without_an_event_there_are_no_durations() -> None:
    message = to_message(commit(0))
    assert (message.event_to_ack_ns, message.event_to_commit_ns) == (0, 0)


def test_an_event_from_the_future_is_no_negative_duration() -> None:
    message = to_message(commit(5000))
    assert (message.event_to_ack_ns, message.event_to_commit_ns) == (0, 0)
