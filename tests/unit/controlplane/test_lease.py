"""Which replica holds a Lease, how another takes it over, and what becomes of the work of one that loses it."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from controlplane.lease import NAMESPACE, Lease, Times, home, me
from controlplane.lease_figures import LeaseFigures
from controlplane.source.resource import ApiError
from controlplane.term import Term
from tests.unit.controlplane.endpoints.server import Server

PATH = "/apis/coordination.k8s.io/v1/namespaces/ns/leases/work"
LIMIT = 20.0


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0.001)


def lease_of(server: Server, name: str, **fields: Any) -> Lease:
    api: Any = server

    async def connected() -> Any:
        return api

    return Lease(connected, "ns", "work", name, **fields)


class Replica:
    """One that takes part; `working` while its work runs."""

    def __init__(self, server: Server, name: str, clock: Clock) -> None:
        self.lease = lease_of(server, name, clock=clock)
        self.terms = 0
        self.working = False
        self.task = asyncio.create_task(Term(self.lease, clock.sleep).run(self.work))

    async def work(self) -> None:
        self.terms, self.working = self.terms + 1, True
        try:
            await asyncio.Event().wait()
        finally:
            self.working = False

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def until(condition: Any) -> None:
    async with asyncio.timeout(LIMIT):
        while not condition():  # noqa: ASYNC110 - the replicas' own progress
            await asyncio.sleep(0.001)


async def test_one_of_two_works_and_the_other_when_it_has_left() -> None:
    server, clock = Server(), Clock()
    first = Replica(server, "first", clock)
    await until(lambda: first.working)
    second = Replica(server, "second", clock)
    await until(lambda: clock.now > 60)
    assert (first.working, second.working, second.lease.holder) == (True, False, "first")

    left = clock.now
    await first.stop()
    assert server.objects[PATH]["spec"]["holderIdentity"] == ""
    await until(lambda: second.working)
    assert clock.now - left < Times().duration  # it was given back
    assert server.objects[PATH]["spec"]["leaseTransitions"] == 1
    await second.stop()


async def test_the_lease_of_one_that_crashed_is_taken_over_after_its_duration() -> None:
    server, clock = Server(), Clock()
    first = Replica(server, "first", clock)
    await until(lambda: first.working)
    server.objects[PATH]["spec"]["holderIdentity"] = "crashed"
    record = server.objects[PATH]
    await first.stop()
    server.objects[PATH] = record
    began = clock.now
    second = Replica(server, "second", clock)
    await until(lambda: second.working)
    assert clock.now - began >= Times().duration
    await second.stop()


async def test_one_that_cannot_renew_ends_its_work_before_another_may_begin(caplog: pytest.LogCaptureFixture) -> None:
    server, clock = Server(), Clock()
    replica = Replica(server, "first", clock)
    await until(lambda: replica.working)
    began = clock.now
    server.failing = [ApiError("not reachable")] * 6
    await until(lambda: replica.lease.losses == 1)
    assert clock.now - began <= Times().duration
    assert "lease lost" in caplog.text
    await until(lambda: replica.terms == 2)
    await replica.stop()


async def test_a_server_that_never_answers_does_not_keep_the_work_beyond_the_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Real time, short: the request hangs, and the work has ended before the Lease's duration is over."""
    server = Server()
    lease = lease_of(server, "me", times=Times(duration=0.6, deadline=0.4, period=0.05))
    ended = asyncio.Event()

    async def work() -> None:
        async def hang(*_: Any) -> bytes:
            await asyncio.Event().wait()
            return b""

        monkeypatch.setattr(server, "replace", hang)
        began = asyncio.get_running_loop().time()
        try:
            await asyncio.Event().wait()
        finally:
            assert asyncio.get_running_loop().time() - began < 5
            ended.set()

    task = asyncio.create_task(Term(lease).run(work))
    async with asyncio.timeout(LIMIT):
        await ended.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_one_whose_lease_another_took_ends_its_work_at_once() -> None:
    server, clock = Server(), Clock()
    replica = Replica(server, "first", clock)
    await until(lambda: replica.working)
    spec = server.objects[PATH]["spec"] | {"holderIdentity": "thief"}
    server.put(PATH, server.objects[PATH] | {"spec": spec})
    began = clock.now
    await until(lambda: replica.lease.losses == 1)
    assert clock.now - began < Times().deadline
    assert (replica.working, replica.lease.held, replica.lease.holder) == (False, False, "thief")
    await replica.stop()


async def test_what_others_say_in_the_lease_stays() -> None:
    server, clock = Server(), Clock()
    meta = {"name": "work", "namespace": "ns", "labels": {"a": "b"}}
    server.put(PATH, {"metadata": meta, "spec": {}})
    replica = Replica(server, "first", clock)
    await until(lambda: replica.working)
    assert server.objects[PATH]["metadata"]["labels"] == {"a": "b"}
    await replica.stop()


async def test_work_that_fails_is_told_and_the_lease_given_back() -> None:
    server, clock = Server(), Clock()

    async def work() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        await Term(lease_of(server, "me", clock=clock), clock.sleep).run(work)
    assert server.objects[PATH]["spec"]["holderIdentity"] == ""


async def test_a_server_that_refuses_is_asked_again_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    server, clock = Server(), Clock()
    server.failing = [ApiError("forbidden: grant create on leases", 403)] * 3
    replica = Replica(server, "first", clock)
    await until(lambda: replica.working)
    assert caplog.text.count("cannot ask for the lease") == 1
    await replica.stop()


async def test_for_one_write_it_is_taken_and_given_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server, clock = Server(), Clock()
    first, second = (lease_of(server, name, clock=clock) for name in ("first", "second"))
    assert await first.take()
    assert (first.valid, first.left) == (True, 0.0)
    assert not await second.take()
    assert (second.valid, second.holder, second.left) == (False, "first", Times().duration)
    assert "another replica holds the lease" in caplog.text
    assert "holder=first" in caplog.text
    await first.leave()
    assert not first.valid
    assert await second.take()
    assert server.objects[PATH]["spec"]["holderIdentity"] == "second"


async def test_who_waits_for_a_dead_holder_says_once_who_it_is_and_until_when(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    server, clock = Server(), Clock()
    dead, waiting = (lease_of(server, name, clock=clock) for name in ("dead", "waiting"))
    assert await dead.take()
    for _ in range(int(Times().duration)):
        assert not await waiting.take()
        clock.now += 1
    assert await waiting.take()
    lines = [record.getMessage() for record in caplog.records if "holder=dead" in record.getMessage()]
    assert len(lines) == 2  # it holds it; it does not renew it
    assert all(re.search(r"lease=work holder=dead until=\S+Z seconds=\d+", line) for line in lines)
    assert "does not renew it" in lines[1]


async def test_one_that_was_stopped_for_longer_than_its_term_may_not_write_before_it_has_looked() -> None:
    server, clock = Server(), Clock()
    lease = lease_of(server, "me", clock=clock)
    assert await lease.take()
    clock.now += Times().deadline - 1
    valid = [lease.valid]
    clock.now += 1
    valid.append(lease.valid)
    assert await lease.take(), "nobody has taken it meanwhile"
    assert [*valid, lease.valid] == [True, False, True]


async def test_a_lease_that_was_deleted_is_made_again_within_the_term() -> None:
    server, clock = Server(), Clock()
    replica = Replica(server, "first", clock)
    await until(lambda: replica.working)
    del server.objects[PATH]
    await until(lambda: PATH in server.objects)
    assert (replica.terms, replica.lease.losses) == (1, 0)
    await replica.stop()


async def test_the_metrics_say_who_else_counts_and_for_how_long() -> None:
    server, clock = Server(), Clock()
    other, lease = (lease_of(server, name, clock=clock) for name in ("other", "me"))
    assert await other.take()
    await lease.take()
    clock.now += 5
    page = CollectorRegistry()
    page.register(LeaseFigures(lambda: [lease, None]))
    labels = {"lease": "work", "holder": "other"}
    assert page.get_sample_value("deltaplane_lease_other_seconds", labels) == Times().duration - 5
    assert page.get_sample_value("deltaplane_lease_held", {"lease": "work"}) == 0


def test_each_process_has_a_name_of_its_own() -> None:
    assert me() != me()


def test_the_namespace_is_that_of_the_pod(tmp_path: Path) -> None:
    (tmp_path / "namespace").write_text("here\n")
    assert home(tmp_path / "namespace") == "here"
    assert home(tmp_path / "absent") == NAMESPACE
