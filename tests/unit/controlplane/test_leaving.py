"""A replica that stops waits for what agents have yet to acknowledge, then sends them away one after the other."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from controlplane import leaving
from controlplane.session import Session
from deltaplane.v1 import delta_pb2 as pb
from tests.sessions import objects
from tests.sessions.link import Replica


class Clock:
    """Sleeps without waiting; `naps` are the pauses, in seconds."""

    def __init__(self) -> None:
        self.naps: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)


def opened(replica: Replica, name: str) -> Session:
    """A stream that has been sent the whole state and has acknowledged nothing."""
    session = replica.stream()
    hello = pb.Hello(node_name=name, protocol_min=1, protocol_max=1)
    session.on_message(pb.WatchRequest(hello=hello), 0.0)
    while session.next_message(0.0) is not None:
        pass
    return session


def acknowledge(session: Session) -> None:
    ack = pb.Ack(received_rev=session.sent_rev, applied_rev=session.sent_rev)
    session.on_message(pb.WatchRequest(ack=ack), 0.0)


@pytest.fixture
def replica() -> Replica:
    return Replica([objects.service(1)])


def goes_away(session: Session) -> bool:
    message = session.next_message(1.0)
    return message is not None and pb.WatchResponse.FromString(message).HasField("go_away")


async def test_each_is_sent_away_and_there_is_a_pause_between_two(replica: Replica) -> None:
    sessions, clock = [opened(replica, f"n{number}") for number in range(4)], Clock()
    for session in sessions:
        acknowledge(session)

    await leaving.send_away(sessions, clock.sleep)

    assert all(map(goes_away, sessions))
    assert clock.naps == [leaving.EACH_SECONDS] * 3


async def test_what_an_agent_has_yet_to_acknowledge_is_waited_for(replica: Replica) -> None:
    session, naps = opened(replica, "n1"), 0

    async def sleep(seconds: float) -> None:
        nonlocal naps
        naps += 1
        if naps == 3:
            assert session.closed is None
            acknowledge(session)

    await leaving.send_away([session], sleep)

    assert naps == 3
    assert goes_away(session)


async def test_an_agent_that_acknowledges_nothing_is_waited_for_a_limited_time(replica: Replica) -> None:
    session, clock = opened(replica, "n1"), Clock()

    await leaving.send_away([session], clock.sleep)

    assert sum(clock.naps) == pytest.approx(leaving.ACK_SECONDS)
    assert goes_away(session)


async def test_a_stream_that_has_ended_is_passed_over(replica: Replica) -> None:
    session, clock = opened(replica, "n1"), Clock()
    session.close("CANCELLED", "it left")

    await leaving.send_away([session], clock.sleep)

    assert not goes_away(session)
    assert clock.naps == []


async def test_many_share_the_time_that_a_stop_may_take(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaving, "SPREAD_SECONDS", leaving.EACH_SECONDS)  # as if there were thousands
    sessions, clock = [opened(replica, f"n{number}") for number in range(5)], Clock()
    for session in sessions:
        acknowledge(session)

    await leaving.send_away(sessions, clock.sleep)

    assert sum(clock.naps) <= leaving.SPREAD_SECONDS


def test_the_pod_is_given_longer_than_the_longest_stop() -> None:
    path = Path(__file__).parents[3] / "deploy" / "kustomize" / "base" / "controlplane.yaml"
    workload = next(one for one in yaml.safe_load_all(path.read_text("utf-8")) if one["kind"] == "DaemonSet")

    longest = leaving.ACK_SECONDS + leaving.SPREAD_SECONDS + leaving.CLOSE_SECONDS
    assert workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] > longest + 5
