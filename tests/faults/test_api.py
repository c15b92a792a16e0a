"""Fault case 13: the API server is away, slow, ends watches again and again, or has forgotten where one was."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import count

import pytest

from tests.faults.api import VIP, Api, api, endpoint_slice, following, service
from tests.faults.world import Replica, World, address, until

AWAY = 60.0  # seconds, for ten minutes: the longest of a source's own waits is 30 s
SLOW = 30.0
STORM = 8.0


@pytest.fixture
def server(bare: World) -> Iterator[Api]:
    with api(bare.folder / "api") as made:
        made.put("services", service(1, VIP))
        made.put("endpointslices", endpoint_slice(1, [address(1)]))
        yield made


@pytest.fixture
def served(bare: World, server: Api) -> World:
    """Two replicas and an agent that follow the API server."""
    for _ in range(2):
        listening(following(bare, server))
    bare.agent()
    bare.holds()
    return bare


def change(world: World, server: Api, *endpoints: int) -> None:
    world.truth[1] = [address(number) for number in endpoints]
    server.put("endpointslices", endpoint_slice(1, world.truth[1]))


def listening(replica: Replica) -> None:
    """Starts it where it cannot have a state yet."""
    process = super(Replica, replica).start()
    until(lambda: "started" in process.output(), "a replica that listens")


@pytest.mark.slow
def test_fault_13_the_api_server_is_away_and_replicas_and_agents_are_restarted_meanwhile(
    served: World, server: Api
) -> None:
    (agent,) = served.agents
    first, second = served.replicas
    with server.down():
        end = time.monotonic() + AWAY
        second.kill()
        listening(second)
        served.holds([first])
        agent.kill()
        agent.start()
        served.holds([first])
        change(served, server, 2, 3)
        before = {VIP: frozenset({address(1)})}
        while time.monotonic() < end:
            assert served.kernel(agent) == before
            assert served.reached(agent, 1) == {address(1)}
            time.sleep(2)

    served.holds()


@pytest.mark.slow
def test_fault_13_the_api_server_answers_half_a_minute_late(served: World, server: Api) -> None:
    (agent,), (_, second) = served.agents, served.replicas
    server.slow = SLOW
    second.kill()
    began = time.monotonic()
    change(served, server, 2)
    listening(second)
    until(lambda: served.has(agent, served.wanted()), "the late change", 2 * SLOW)
    assert time.monotonic() - began > SLOW * 0.9
    until(second.serving, "a replica that has listed", 2 * SLOW)
    server.slow = 0.0
    change(served, server, 3)

    served.holds()


@pytest.mark.slow
def test_fault_13_watches_end_again_and_again(served: World, server: Api) -> None:
    server.lasts = 0.05
    server.end_watches()
    server.asked.clear()
    end = time.monotonic() + STORM
    for number in count(1):
        change(served, server, number % 200 + 1, number % 200 + 2)
        time.sleep(0.05)
        if time.monotonic() > end:
            break

    served.holds()
    assert not any(server.asked[f"list {kind}"] for kind in ("services", "endpointslices")), server.asked
    assert server.asked["watch services"] < 2 * STORM / 0.05 / 3, "what brings nothing is asked for ever more seldom"


@pytest.mark.slow
def test_fault_13_bookmarks_are_lost_and_the_version_of_a_quiet_kind_is_forgotten(served: World, server: Api) -> None:
    for number in range(30):
        change(served, server, number + 1, number + 2)
    served.holds()
    server.asked.clear()
    server.forget()
    served.vips[2], served.truth[2] = "10.96.0.2", [address(7)]
    server.put("services", service(2, "10.96.0.2"))
    server.put("endpointslices", endpoint_slice(2, [address(7)]))

    served.holds()
    assert server.asked["watch services"] > len(served.replicas), "no version was forgotten"
