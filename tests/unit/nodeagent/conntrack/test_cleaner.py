"""Sweeps of the table in memory: what goes, what it costs, and that no trouble reaches the commit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace

from deltaplane.backoff import Backoff
from deltaplane.forwarding import NodeForwarding, Target
from nodeagent.conntrack import cleaner as module
from nodeagent.conntrack.cleaner import Cleaner, Swept
from nodeagent.conntrack.query import Flow, Query
from nodeagent.errors import KernelUnavailable
from tests.fakes.conntrack import MemoryTable, Tracked
from tests.unit.nodeagent.conntrack.cases import (
    NODE,
    NODE_PORT,
    SERVICE_PORT,
    SERVING,
    TCP,
    UDP,
    VIRTUAL,
    after,
    attempts,
    balanced,
    before,
    connectable,
    everything,
    key,
    matrix,
    node,
    packed,
    place,
    service,
    simple,
    target,
    untranslated,
)

FAMILIES = pytest.mark.parametrize("family", [4, 6])
E1, E2 = target("10.0.0.1"), target("10.0.0.2")
VIP = place(VIRTUAL[4][0], SERVICE_PORT)
CLIENT = b"\xc6\x33\x64\x07"


def flows(count: int, source: Target = E1, port: int = SERVICE_PORT) -> list[Tracked]:
    there = place(VIRTUAL[4][0], port)
    return [Tracked((CLIENT, number), there, source) for number in range(count)]


@pytest.fixture
def swept() -> list[Swept]:
    return []


@FAMILIES
def test_a_start_takes_what_nobody_serves_and_leaves_the_rest(family: int, swept: list[Swept]) -> None:
    """J2, J3, J4, J5; and flows whose endpoint serves live through a restart of the agent."""
    cases = matrix(family) + untranslated(family)
    table = MemoryTable(entry for entry, _ in cases)
    cleaner = Cleaner(table, swept.append)
    cleaner.want([everything(family, after(family))], node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.entries == [entry for entry, stale in cases if not stale]
    assert sum(result.deleted for result in swept) == sum(stale for _, stale in cases)


@FAMILIES
def test_a_change_takes_what_it_took_away(family: int, swept: list[Swept]) -> None:
    cases = matrix(family)
    table = MemoryTable(entry for entry, _ in cases)
    cleaner = Cleaner(table, swept.append)
    cleaner.want([everything(family, before(family))], node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert len(table.entries) == len(cases)
    cleaner.want([everything(family, after(family))])
    cleaner.commit()
    cleaner.clean()
    assert table.entries == [entry for entry, stale in cases if not stale]


@FAMILIES
@pytest.mark.parametrize("gone", ["no endpoints", "deleted"])
def test_without_endpoints_no_flow_stays(family: int, gone: str) -> None:
    """J3 as it is after kube-proxy 1.36."""
    cases = matrix(family)
    table = MemoryTable(entry for entry, _ in cases)
    cleaner = Cleaner(table)
    cleaner.want([everything(family, before(family))], node(), complete=True)
    cleaner.commit()
    cleaner.want([everything(family, []) if gone == "no endpoints" else service()])
    cleaner.commit()
    cleaner.clean()
    ours = {place(virtual, SERVICE_PORT) for virtual in VIRTUAL[family]}
    assert not any(entry.place in ours and entry.protocol == 17 for entry in table.entries)
    kept = [entry for entry, stale in cases if not stale and entry.source != target(SERVING[family])]
    assert set(kept) <= set(table.entries)


@FAMILIES
@pytest.mark.parametrize("change", [False, True], ids=["start", "change"])
def test_attempts_that_nobody_answered_or_translated_go_and_connections_stay(family: int, change: bool) -> None:
    """J2, J5"""
    cases = attempts(family)
    table = MemoryTable(entry for entry, _ in cases)
    cleaner = Cleaner(table)
    if change:
        cleaner.want(connectable(family), node(), complete=True)
        cleaner.commit()
        cleaner.clean()
        assert len(table.entries) == len(cases)
    cleaner.want(connectable(family, target(SERVING[family])), node(), complete=not change)
    cleaner.commit()
    cleaner.clean()
    assert table.entries == [entry for entry, stale in cases if not stale]


def test_a_start_with_many_services_asks_once_for_each_protocol_and_family() -> None:
    table = MemoryTable(entry for entry, _ in attempts(4))
    cleaner = Cleaner(table)
    many = [simple(4, E1, name=f"{protocol}-{n}", protocol=protocol) for protocol in (TCP, 17) for n in range(500)]
    moved = [
        replace(each, entries=tuple(replace(e, frontend=e.frontend._replace(port=n + 1)) for e in each.entries))
        for n, each in enumerate(many)
    ]
    cleaner.want(moved, node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.walks == [Query(4), Query(4, protocol=TCP)]
    table.walks.clear()
    cleaner.want(moved, node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.walks == []


def test_what_could_not_be_freed_is_tried_again() -> None:
    table = MemoryTable(entry for entry, _ in attempts(4))
    cleaner = settled(table, E1)  # which takes untranslated flows of UDP
    before = len(table.entries)
    cleaner.want([simple(4, E1, name="tcp", protocol=TCP)])
    cleaner.commit()
    table.broken = KernelUnavailable("conntrack: no")
    cleaner.clean()
    assert len(table.entries) == before
    cleaner.clean()
    gone = [entry for entry, stale in attempts(4) if stale and entry.protocol == TCP]
    assert set(gone).isdisjoint(table.entries)
    assert len(table.entries) == before - len(gone)


def settled(table: MemoryTable, *serving: Target, swept: list[Swept] | None = None) -> Cleaner:
    """A cleaner that has cleaned up after its start."""
    cleaner = Cleaner(table, (swept if swept is not None else []).append)
    cleaner.want([simple(4, *serving)], node(4), complete=True)
    cleaner.commit()
    cleaner.clean()
    table.walks.clear()
    table.handed_out = 0
    (swept or []).clear()
    return cleaner


def test_node_ports_on_every_address_are_those_of_this_machine() -> None:
    """B4, J4: no list of addresses, but a flow that passes on to another machine is not ours."""
    mine, other, loopback = (place(text, NODE_PORT) for text in ("192.168.7.7", "203.0.113.9", "127.0.0.1"))
    table = MemoryTable(Tracked((CLIENT, n), at, E1) for n, at in enumerate((mine, other, loopback)))
    cleaner = Cleaner(table, machine=lambda: [mine.address, loopback.address, b"\0" * 16])
    cleaner.want([simple(4)], NodeForwarding((), (4,)), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert [entry.place for entry in table.entries] == [other, loopback]


def test_what_was_deleted_while_the_agent_was_down_is_cleaned_at_its_start() -> None:
    table = MemoryTable(flows(2))
    cleaner = Cleaner(table)
    cleaner.adopt([VIP])
    cleaner.want([], node(4), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.entries == []


def test_other_protocols_cost_no_look_at_the_table_unless_they_lead_somewhere_for_the_first_time() -> None:
    table = MemoryTable(flows(3))
    cleaner = settled(table, E1)
    cleaner.want([simple(4, E1, name="tcp", protocol=TCP)])
    cleaner.commit()
    cleaner.clean()
    assert {query.protocol for query in table.walks} == {TCP}
    assert table.handed_out == 0
    table.walks.clear()
    for serving in ((E1,), (E2,), ()):
        cleaner.want([simple(4, *serving, name="tcp", protocol=TCP)])
        cleaner.commit()
        cleaner.clean()
    assert table.walks == []


def test_one_endpoint_of_many_flows_has_only_its_own_handed_out() -> None:
    table = MemoryTable([*flows(1000, E2), *flows(10, E1), *flows(1000, E1, port=1)])
    cleaner = settled(table, E1, E2)
    cleaner.want([simple(4, E2)])
    cleaner.commit()
    cleaner.clean()
    assert table.handed_out == 10
    assert len(table.walks) == 3  # the cluster IP, and the node port on two addresses
    assert len(table.entries) == 2000


@FAMILIES
def test_narrowed_ranges_take_the_clients_outside_of_them(family: int) -> None:
    """J9: at the load balancer's address alone, and of UDP alone; it costs one look, and what takes nobody, none."""
    serving = target(SERVING[family])
    wide, half, inside, outside = {
        4: ("203.0.113.0/24", "203.0.113.0/25", "203.0.113.7", "203.0.113.200"),
        6: ("2001:db8:7::/48", "2001:db8:7::/49", "2001:db8:7::7", "2001:db8:7:8000::7"),
    }[family]
    ports = [place(address, SERVICE_PORT) for address in (VIRTUAL[family][2], VIRTUAL[family][0])]
    ports.append(place(NODE[family][0], NODE_PORT))
    entries = [
        Tracked((packed(client), 1000), at, serving, protocol)
        for client in (inside, outside)
        for at in ports
        for protocol in (UDP, TCP)
    ]
    table = MemoryTable(entries)
    cleaner = Cleaner(table)
    cleaner.want([balanced(family, [serving], wide)], node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.entries == entries
    table.walks.clear()
    for ranges in ((half,), (half, wide), (wide,)):
        cleaner.want([balanced(family, [serving], *ranges)])
        cleaner.commit()
        cleaner.clean()
    assert table.entries == [each for each in entries if each != Tracked((packed(outside), 1000), ports[0], serving)]
    assert table.walks == [Query(family, ports[0])]


class Growing(MemoryTable):
    """While it is listed, a further endpoint comes, and a client at once."""

    cleaner: Cleaner

    def flows(self, query: Query) -> Iterator[Flow]:
        if not self.walks:
            self.cleaner.want([simple(4, E1, E2)])
            self.cleaner.commit()
            self.add(Tracked((CLIENT, 9), VIP, E2))
        return super().flows(query)


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_flow_to_an_endpoint_that_came_while_the_table_was_listed_stays(*, in_thread: bool) -> None:
    table = Growing([Tracked((CLIENT, 1), VIP, E1), Tracked((CLIENT, 2), VIP, target("10.0.0.7"))])
    table.cleaner = cleaner = Cleaner(table, lambda _: None)
    cleaner.want([simple(4, E1)], node(), complete=True)
    cleaner.commit()
    if in_thread:
        await cleaner._round()
    else:
        cleaner.clean()
    assert {entry.source for entry in table.entries} == {E1, E2}


def test_changes_that_come_together_are_one_sweep() -> None:
    table = MemoryTable([*flows(5, E1), *flows(5, E2)])
    swept: list[Swept] = []
    cleaner = settled(table, E1, E2, swept=swept)
    for serving in ([E1], [E1, E2], [E2]):
        cleaner.want([simple(4, *serving)])
        cleaner.commit()
    cleaner.clean()
    assert [(result.places, result.deleted) for result in swept] == [(3, 5)]
    assert table.entries == flows(5, E2)


def test_many_stale_flows_go_in_batches() -> None:
    count = module.BATCH * 3 + 1
    table = MemoryTable(flows(count))
    cleaner = settled(table, E1)
    cleaner.want([simple(4)])
    cleaner.commit()
    cleaner.clean()
    assert table.entries == []
    assert table.deletes == 4


def test_a_failure_is_told_once_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    table = MemoryTable(flows(2))
    swept: list[Swept] = []
    cleaner = settled(table, E1, swept=swept)
    cleaner.want([simple(4)])
    cleaner.commit()
    for _ in range(2):
        table.broken = KernelUnavailable("conntrack: no")
        cleaner.clean()
    cleaner.clean()
    assert [result.error for result in swept] == ["conntrack: no", "conntrack: no", ""]
    assert table.entries == []
    assert [record.getMessage().split(" ")[0] for record in caplog.records] == ["stale"] * 3
    assert sum("retrying" in record.getMessage() for record in caplog.records) == 1
    assert sum("again" in record.getMessage() for record in caplog.records) == 1


def test_one_family_in_trouble_leaves_the_other_clean() -> None:
    class Half(MemoryTable):
        def flows(self, query: Query) -> Iterator[Flow]:
            if query.family == 6:
                raise KernelUnavailable("conntrack: no IPv6")
            return super().flows(query)

    table = Half(flows(2))
    cleaner = Cleaner(table)
    cleaner.want([simple(4), simple(6, name="six")], node(), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert table.entries == []
    assert {item.key for item in cleaner._intents.take()} == {key("six")}


def test_a_defect_in_the_table_stays_there(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(MemoryTable):
        def delete(self, flows: Sequence[Flow]) -> int:
            raise ZeroDivisionError

    results: list[Swept] = []
    cleaner = Cleaner(Broken(flows(2)), results.append)
    cleaner.want([simple(4)], complete=True)
    cleaner.commit()
    cleaner.clean()
    assert "ZeroDivisionError" in results[0].error
    assert "Traceback" in caplog.text


async def test_the_task_sweeps_what_is_committed_and_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKOFF", Backoff(0.001, 60.0))
    table = MemoryTable(flows(3))
    table.broken = KernelUnavailable("conntrack: busy")
    done: asyncio.Queue[Swept] = asyncio.Queue()
    cleaner = Cleaner(table, done.put_nowait)
    task = asyncio.create_task(cleaner.run())
    cleaner.want([simple(4, E2)], complete=True)
    await asyncio.sleep(0)
    assert done.empty()
    cleaner.commit()
    assert (await done.get()).error
    assert (await done.get()).deleted == 3
    table.add(*flows(2, E2))
    cleaner.want([service()])
    cleaner.commit(failed={key()})
    cleaner.commit()
    assert (await done.get()).deleted == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
