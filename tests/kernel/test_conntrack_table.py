"""The kernel's own connection tracking table, with the cases of the one in memory; the stock tool is the oracle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from deltaplane.forwarding import Target
from nodeagent.conntrack import wire as conntrack
from nodeagent.conntrack.cleaner import Cleaner, Swept
from nodeagent.conntrack.places import Place
from nodeagent.conntrack.query import Query
from nodeagent.conntrack.table import CHUNK, NetlinkTable
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from tests.fakes.conntrack import MemoryTable, Tracked
from tests.kernel.conntrack_support import insert, listed
from tests.unit.nodeagent.conntrack.cases import (
    GONE,
    NODE,
    NODE_PORT,
    SCTP,
    SERVICE_PORT,
    SERVING,
    TCP,
    UDP,
    VIRTUAL,
    after,
    attempts,
    before,
    connectable,
    everything,
    matrix,
    node,
    place,
    service,
    target,
    untranslated,
)
from tools.lab.fabric import Fabric
from tools.lab.netns import Namespace
from tools.lab.rules import run

FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def space(clean: Fabric) -> Namespace:
    """A node without traffic of its own: what is in its table is what the test put there."""
    return clean.nodes[2].space


@pytest.fixture
def table(space: Namespace) -> Iterator[NetlinkTable]:
    with space.entered():
        made = NetlinkTable()
    with closing(made):
        yield made


@FAMILIES
def test_a_start_and_a_change_take_what_is_stale_and_nothing_else(
    space: Namespace, table: NetlinkTable, family: int
) -> None:
    cases = matrix(family) + untranslated(family)
    kept = {entry for entry, stale in cases if not stale}
    swept: list[Swept] = []
    for change in (False, True):
        cleaner = Cleaner(table, swept.append)
        first = everything(family, before(family) if change else after(family))
        cleaner.want([first], node(), complete=True)
        cleaner.commit()
        if change:
            cleaner.clean()
        insert(space, [entry for entry, _ in cases if not change or entry in dict(matrix(family))])
        cleaner.want([everything(family, after(family))])
        cleaner.commit()
        cleaner.clean()
        assert listed(space) == (kept & set(dict(matrix(family))) if change else kept)
        assert not any(result.error for result in swept)
        run(space, "conntrack", "-F")


@FAMILIES
@pytest.mark.parametrize("change", [False, True], ids=["start", "change"])
def test_attempts_that_nobody_answered_or_translated_go_and_connections_stay(
    space: Namespace, table: NetlinkTable, family: int, change: bool
) -> None:
    """J2, J5"""
    cases = attempts(family)
    insert(space, [entry for entry, _ in cases])
    assert listed(space) == {entry for entry, _ in cases}
    swept: list[Swept] = []
    cleaner = Cleaner(table, swept.append)
    steps = ([], [target(SERVING[family])]) if change else ([target(SERVING[family])],)
    for step in steps:
        cleaner.want(connectable(family, *step), node(), complete=step is steps[0])
        cleaner.commit()
        cleaner.clean()
    assert listed(space) == {entry for entry, stale in cases if not stale}
    assert sum(result.deleted for result in swept) == sum(stale for _, stale in cases)
    assert not any(result.error for result in swept)


@FAMILIES
def test_the_kernel_hands_out_no_connection_but_what_waits(space: Namespace, table: NetlinkTable, family: int) -> None:
    """However many there are; a kernel that does not compare hands out all, with what each is."""
    cases = attempts(family)
    insert(space, [entry for entry, _ in cases])
    waiting = {entry for entry, _ in cases if entry.protocol == TCP and not entry.answered}
    for filtered in (True, False):
        table._filtered = filtered
        flows = list(table.flows(Query(family, protocol=TCP)))
        found = [(flow.place, flow.source) for flow in flows if flow.waiting]
        assert sorted(found) == sorted((entry.place._replace(protocol=TCP), entry.source) for entry in waiting)
        assert (len(flows) == len(waiting)) is filtered


@FAMILIES
def test_the_tables_answer_alike(space: Namespace, table: NetlinkTable, family: int) -> None:
    """The kernel compares, so that little is handed out unasked: of IPv6 ports alone, of SCTP no port."""
    entries = [entry for entry, _ in matrix(family) + untranslated(family) + attempts(family)]
    zoned = [entry._replace(zone=7) for entry in entries]
    insert(space, entries + zoned)
    assert listed(space) == set(entries + zoned)
    memory = MemoryTable(entries + zoned)
    virtual = place(VIRTUAL[family][0], SERVICE_PORT)
    for query in (
        Query(family),
        Query(family, virtual),
        Query(family, virtual, target(SERVING[family])),
        Query(family, place(NODE[family][0], NODE_PORT), target(GONE[family])),
        Query(family, place(NODE[family][0], 9)),
        Query(10 - family),
        Query(family, protocol=TCP),
        Query(family, virtual._replace(protocol=SCTP), protocol=SCTP),
    ):
        wanted = sorted((flow.place, flow.source) for flow in memory.flows(query))
        found = sorted((flow.place, flow.source) for flow in table.flows(query))
        if family == 6 and query.protocol != SCTP:
            assert {ports(*each) for each in found} <= {ports(*each) for each in wanted}
        if family == 6 or query.protocol == SCTP:
            found = [each for each in found if each in wanted]
        assert found == wanted


def ports(there: Place, source: Target) -> tuple[int, int]:
    return there.port, source.port


@FAMILIES
def test_a_kernel_that_does_not_compare_is_compared_for(
    space: Namespace, table: NetlinkTable, family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before Linux 5.8 the question is not understood: all is handed out, or the request refused."""
    entries = [entry for entry, _ in matrix(family)]
    insert(space, entries)
    usual = conntrack.dump
    odd = wire.attribute(conntrack.FILTER | 0x8000, wire.attribute(1, b"\xff\xff\xff\x7f"))  # flags no kernel knows

    def refused(query: Query, sequence: int, *, filtered: bool = True) -> bytes:
        if not filtered:
            return usual(query, sequence, filtered=False)
        return wire.message((conntrack.GET, wire.REQUEST | wire.DUMP, sequence), conntrack.AF[query.family], odd)

    monkeypatch.setattr(conntrack, "dump", refused)
    flows = list(table.flows(Query(family, place(VIRTUAL[family][0], SERVICE_PORT))))
    assert len(flows) == sum(entry.protocol == UDP for entry in entries)
    assert table.delete(flows) == len(flows)
    assert listed(space) == {entry for entry in entries if entry.protocol != UDP}


def test_deletes_name_the_very_entry(space: Namespace, table: NetlinkTable) -> None:
    """Another one of the same tuple stays; one that is gone is not counted."""
    entry = Tracked((b"\xc6\x33\x64\x07", 20000), place("172.30.1.1", 53), target("10.0.0.1"))
    insert(space, [entry])
    (flow,) = table.flows(Query(4))
    identity = wire.attributes(flow.name)[conntrack.ID]
    other = bytes(byte ^ 0xFF for byte in identity)
    assert table.delete([flow._replace(name=flow.name.replace(identity, other))]) == 0
    assert listed(space) == {entry}
    assert table.delete([flow]) == 1
    assert table.delete([flow]) == 0
    assert table.delete([]) == 0
    assert listed(space) == set()


def test_many_flows_are_read_and_deleted_in_passing(space: Namespace, table: NetlinkTable) -> None:
    """Deletes go on while the dump does; a caller that gives up in the middle spoils nothing."""
    there, count = place("172.30.1.1", 53), CHUNK * 20 + 1
    stale = [Tracked((b"\xc6\x33\x64\x07", 1000 + n), there, target("10.0.0.1")) for n in range(count)]
    kept = [
        entry._replace(client=(b"\xc6\x33\x64\x08", n), source=target("10.0.0.2")) for n, entry in enumerate(stale, 1)
    ]
    insert(space, stale + kept)
    unfinished = table.flows(Query(4))
    next(unfinished)
    swept: list[Swept] = []
    cleaner = Cleaner(table, swept.append)
    cleaner.want([everything(4, [target("10.0.0.2")])], node(4), complete=True)
    cleaner.commit()
    cleaner.clean()
    assert [result.error for result in swept] == [""]
    assert swept[0].deleted == 0  # they go to port 53, which is nobody's
    deleted = sum(table.delete([flow]) for flow in table.flows(Query(4, there, target("10.0.0.1"))))
    assert deleted == count
    assert listed(space) == set(kept)


def test_protocols_and_the_rest_of_the_table_survive_the_removal_of_all_services(
    space: Namespace, table: NetlinkTable
) -> None:
    entries = [entry for entry, _ in matrix(4)]
    insert(space, entries)
    cleaner = Cleaner(table)
    cleaner.want([everything(4, before(4))], node(4), complete=True)
    cleaner.commit()
    cleaner.clean()
    cleaner.want([], complete=True)
    cleaner.commit()
    cleaner.clean()
    ours = {place(address, SERVICE_PORT) for address in VIRTUAL[4]} | {place(a, NODE_PORT) for a in NODE[4]}
    assert listed(space) == {entry for entry in entries if entry.protocol != UDP or entry.place not in ours}
    assert any(entry.protocol == TCP for entry in listed(space))
    cleaner.want([service()], complete=True)
    cleaner.commit()
    cleaner.clean()


def test_a_closed_table_says_so_in_one_line(table: NetlinkTable) -> None:
    table.close()
    with pytest.raises(KernelUnavailable, match=r"^conntrack: listing flows failed \(.*\): it is tried again later$"):
        list(table.flows(Query(4)))


def test_an_interrupted_dump_is_read_again(
    space: Namespace, table: NetlinkTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """J6: half a table is no answer."""
    entry = Tracked((b"\xc6\x33\x64\x07", 20000), place("172.30.1.1", 53), target("10.0.0.1"))
    insert(space, [entry])
    usual, left = table._messages, [2]

    def interrupted() -> Iterator[wire.Message]:
        for message in usual():
            yield message._replace(flags=message.flags | conntrack.INTERRUPTED) if left[0] else message
        left[0] = max(0, left[0] - 1)

    monkeypatch.setattr(table, "_messages", interrupted)
    assert {flow.place for flow in table.flows(Query(4))} == {entry.place}
    left[0] = 1000
    with pytest.raises(KernelUnavailable, match="interrupted"):
        list(table.flows(Query(4)))
