"""A sample of the rounds, what counts as a wrong answer, and how a wait ends whose replica goes.

`python -m tests.waits` has many more rounds.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from deltaplane.v1 import inspection_pb2 as pb
from tests.faults.world import Replica, until
from tests.waits.asking import OBJECT, Answer, version_of
from tests.waits.changes import Change
from tests.waits.faults import GONE, QUIET, Effect, joined
from tests.waits.objects import SERVICES, Put, Served
from tests.waits.run import EVERYWHERE, Asked, run, verdict
from tests.waits.world import Plane, World, world
from tools.lab.deltaplane import COMMAND

CHANGE = Change("port changed", Served(1, "10.97.0.1"), (Put(SERVICES, "s1", 7),))
FAULTS = ("none", "agent stopped", "object poisoned", "replica killed", "two at once")


def asked(plane: object = None) -> Asked:
    return Asked(CHANGE, OBJECT, plane, 2.0)  # type: ignore[arg-type]


def answer(*lacking: pb.Lacking, seconds: float = 2.0) -> Answer:
    return Answer(pb.WaitAppliedResponse(done=True, applied=not lacking, lacking=lacking), seconds)


def quiet(name: str, pending: int = 0) -> pb.Lacking:
    text = "stopped, cut off or very busy"
    return pb.Lacking(node_name=name, reason=pb.LACK_REASON_BEHIND, text=text, pending_rev=pending)


@pytest.mark.parametrize(
    ("said", "wrong"),
    [
        (answer(quiet("n1")), ""),
        (answer(seconds=0.5), "everywhere, and ['n1'] cannot have it"),
        (answer(quiet("n2")), "['n2'] are named, and it is ['n1']"),
        (answer(quiet("n1"), quiet("n2")), "['n1', 'n2'] are named"),
        (answer(quiet("n1", pending=4)), "the reason of n1"),
        (answer(quiet("n1"), seconds=3.2), "1.20 s after the time-out"),
        (Answer(pb.WaitAppliedResponse(), 0.1, "no answer"), "no answer"),
    ],
)
def test_an_answer_is_right_where_it_names_the_node_under_the_fault_with_its_reason_in_time(
    said: Answer, wrong: str
) -> None:
    found = verdict(asked(), said, Effect({"n1": QUIET}))

    assert "; ".join(found).startswith(wrong)
    assert bool(found) == bool(wrong)


def test_a_node_that_finds_another_replica_may_have_the_change_and_no_other_node_may_lack_it() -> None:
    moving = Effect({"n1": QUIET}, frozenset({"n1"}))

    assert not verdict(asked(), answer(), moving)
    assert not verdict(asked(), answer(quiet("n1")), moving)
    assert verdict(asked(), answer(quiet("n2")), moving)
    assert verdict(asked(), answer(), joined((moving, Effect({"n3": GONE})))) == [
        "everywhere, and ['n3'] cannot have it"
    ]


@pytest.fixture
def running() -> Iterator[World]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    with world() as made:
        yield made


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_a_wait_says_everywhere_only_where_packets_agree_and_else_names_the_node_and_the_reason(running: World) -> None:
    found = run(running, 20, 5, lambda _: None, FAULTS, at_once=4)

    assert found.changes == 20
    assert not found.wrong, "\n".join(found.wrong)
    assert found.verdicts["none", EVERYWHERE] == 4


@pytest.mark.slow
@pytest.mark.kernel
@pytest.mark.timeout(300)
def test_a_wait_whose_replica_goes_and_one_for_a_revision_that_went_with_it_say_so(running: World) -> None:
    running.serve()
    never = version_of(Put(SERVICES, "s1", 10**6))
    first, second, third = running.planes

    killed = _ends(first, never, first.kill)
    assert "broke off its answer" in killed
    assert "Ask again: any other replica answers for all" in killed
    stopped = _ends(second, never, lambda: second.running.signal(signal.SIGTERM))
    assert "broke off its answer: this replica stops, and cannot say any more" in stopped

    before = third.status().epoch
    third.kill()
    Replica.start(third)
    until(third.serving, running.state)
    with pytest.raises(grpc.RpcError) as gone:
        _first(third, pb.WaitAppliedRequest(revision=pb.RevisionOf(rev=1, epoch=before), timeout_seconds=5))
    assert gone.value.code() is grpc.StatusCode.NOT_FOUND
    assert f"not in {before}, and no replica that answers does" in str(gone.value.details())
    assert f"{', '.join(sorted((first.address, second.address)))} did not answer" in str(gone.value.details())


def _ends(plane: Plane, what: pb.ObjectVersion, end: Callable[[], object]) -> str:
    """What the command says whose replica ends while it waits there."""
    words = (
        *COMMAND, "wait", f"svc/{what.key.namespace}/{what.key.name}", f"--resource-version={what.resource_version}",
        "--timeout=120s", f"--server={plane.address}", "--insecure",
    )  # fmt: skip
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(subprocess.run, words, capture_output=True, text=True, timeout=120, check=False)
        until(lambda: plane.status().waiters == 1, "a wait that waits")
        end()
        assert done.result().returncode == 3
        return str(done.result().stderr)


def _first(plane: Plane, request: pb.WaitAppliedRequest) -> None:
    next(iter(plane.inspect.WaitApplied(request, wait_for_ready=True, timeout=30)))
