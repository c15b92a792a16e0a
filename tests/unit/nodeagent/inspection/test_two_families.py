"""A Service with an address of each family: a question about one of them is no question about the other's table."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from controlplane.facts import Fact
from deltaplane.model import Endpoint, EndpointSlice
from deltaplane.v1 import agent_pb2, views_pb2
from tests.sessions import objects
from tests.unit.nodeagent.inspection.test_inspection import World

OTHER = ip_address("fd00:10:96::2").packed
POD = ip_address("fd00::9").packed


def both() -> World:
    four = objects.slice_of(2, {1: objects.READY})
    six = EndpointSlice("ns", "svc-2-six", "svc-2", 6, four.ports, (Endpoint(POD, objects.READY),))
    service = objects.service(2)
    service = replace(service, cluster_ips=(*service.cluster_ips, OTHER))
    return World(None, Fact(service.key, service), Fact(four.key, four), Fact(six.key, six))


async def explained(world: World, source: str, address: str) -> agent_pb2.ExplainHereResponse:
    connection = views_pb2.Connection(source=source, address=address, port=80)
    request = agent_pb2.ExplainHereRequest(connection=connection)
    return await world.inspection().ExplainHere(request, None)  # type: ignore[arg-type]


def emptied(world: World, family: int) -> None:
    """Another program deletes what the table of this family has of Services."""
    for (of, _), table in world.kernel.tables.items():
        for held in table.sets.values() if of == family else ():
            held.elements.clear()


@pytest.mark.parametrize(("source", "address"), [("10.0.0.9", "10.96.0.2"), ("fd00::77", "fd00:10:96::2")])
async def test_an_answer_about_one_address_has_no_doubt_for_the_other(source: str, address: str) -> None:
    answer = await explained(both(), source, address)

    assert answer.explanation.fate == views_pb2.FATE_REACHES
    assert (list(answer.differences), answer.kernel_error) == ([], "")


async def test_what_another_program_did_to_one_family_is_said_of_it_alone() -> None:
    world = both()
    emptied(world, 10)

    assert not (await explained(world, "10.0.0.9", "10.96.0.2")).differences
    assert any(
        "cluster IP fd00:10:96::2" in each for each in (await explained(world, "fd00::77", "fd00:10:96::2")).differences
    )


def test_the_kernel_is_read_in_each_family_in_which_a_service_has_something() -> None:
    world = both()
    facts = world.agent.facts()
    service = facts.directory().forwarding(objects.service_key(2))

    assert world.dataplane.look([], [service]).members == world.dataplane.wanted([], [service]).members != frozenset()
