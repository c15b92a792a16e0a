"""What the kernel in memory answers and takes back, where our own transactions seldom lead."""

from __future__ import annotations

import errno

import pytest

from nodeagent.dataplane.nftables.program import SERVICE_IPS, Settings, program
from nodeagent.dataplane.set_members import SERVICE_CIDRS
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import elements, objects, tables
from nodeagent.linux.nft.ranges import merged
from nodeagent.linux.nft.transaction import Batch
from tests.fakes.nftables.memory import MemoryKernel
from tests.fakes.nftables.tables import references

PROGRAM = program(4, Settings())


@pytest.fixture
def kernel() -> MemoryKernel:
    """Our table, with a range."""
    made, batch = MemoryKernel(), Batch("deltaplane", 1)
    batch.install(PROGRAM)
    fill(batch)
    assert made.commit(batch.data(), batch.first, batch.last) == []
    return made


def fill(batch: Batch) -> None:
    batch.fill(4, SERVICE_CIDRS, [packed for part in merged(["10.96.0.0/16"]) for packed in part.elements()])


def test_the_elements_of_a_set_that_is_not_there(kernel: MemoryKernel) -> None:
    with pytest.raises(OSError, match="No such file") as raised:
        list(tables.listed(kernel, PROGRAM.table, "missing"))
    assert raised.value.errno == errno.ENOENT


def test_what_was_there_stays_when_a_transaction_that_adds_it_again_is_refused(kernel: MemoryKernel) -> None:
    before = list(tables.listed(kernel, PROGRAM.table, SERVICE_CIDRS))
    assert elements.END in dict(before).values()
    batch = Batch("deltaplane", 100)
    fill(batch)
    batch.fill(4, "missing", [elements.member(bytes(4))])

    (refused,) = kernel.commit(batch.data(), batch.first, batch.last)

    assert refused.errno == errno.ENOENT
    assert list(tables.listed(kernel, PROGRAM.table, SERVICE_CIDRS)) == before


def test_chains_and_sets_that_rules_name_cannot_go(kernel: MemoryKernel) -> None:
    for operation, kind, name in (
        (objects.DELETE_CHAIN, 3, "services"),
        (objects.DELETE_CHAIN, 3, "reject-chain"),
        (objects.DELETE_SET, 2, SERVICE_IPS),
    ):
        batch = Batch("deltaplane", 100)
        batch.add(operation, 0, 4, wire.text(1, "deltaplane") + wire.text(kind, name))
        (refused,) = kernel.commit(batch.data(), batch.first, batch.last)
        assert refused.errno == errno.EBUSY, name
    assert "services" in tables.chains(kernel, PROGRAM.table)


def test_what_a_rule_names() -> None:
    held = {chain.name: chain.rules for chain in PROGRAM.chains}
    (jump,) = held["nat-output"]
    dispatch = held["firewall-check"][0]

    assert references(expressions(jump.attributes("deltaplane", "nat-output"))).chains == {"services"}
    assert references(expressions(dispatch.attributes("deltaplane", "firewall-check"))).sets == {"firewall-ips"}


def expressions(rule: bytes) -> bytes:
    return wire.attributes(rule)[4]
