"""Others at our tables: what is noticed, what is written again; other settings; families that are refused; cleanup."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import suppress

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding
from nodeagent.dataplane.modes.nftables import OURS
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane, weigh
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects, tables
from nodeagent.linux.nft.tables import KUBE_PROXY
from nodeagent.linux.nft.watch import Damage, Watch, damage
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.nftables.tracing import OUTSIDE, POD, reaches, send
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    SETTINGS,
    STATES,
    all_sticky,
    both,
    expected,
    packed,
    seen,
)

OWN, OTHER = 7, 8
FAMILIES = (4, 6)
STICKY = (all_sticky(both("web", 1, 2, 3)),)
CLIENTS = "affinity/default/web/p/tcp"
OTHER_NODE = NodeForwarding(NODE.node_port_addresses[:1], (), ("172.31.0.0/16", "fd00:10:97::/112"))


class Ear:
    """A monitor that hears what a test says."""

    own = OWN

    def __init__(self) -> None:
        self.said: list[wire.Message] | None = []
        self.here = True
        self.transactions = 0xFFFF_FFFE  # about to wrap

    def fileno(self) -> int:
        return 99

    def heard(self) -> list[wire.Message] | None:
        said, self.said = self.said, []
        return said

    def leave(self) -> None:
        self.here = False

    def join(self) -> None:
        self.here = True

    def generation(self) -> int:
        return self.transactions & 0xFFFF_FFFF

    def close(self) -> None:
        """Nothing to let go of."""


def said(operation: int, table: str = "deltaplane", name: str = "", family: int = 2, port: int = OTHER) -> wire.Message:
    body = wire.text(1, table) + wire.text(2, name)
    return wire.Message(wire.SUBSYSTEM << 8 | operation, 0, 1, family, body, port)


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel()


def started(kernel: MemoryKernel, settings: Settings = SETTINGS) -> tuple[NftablesDataplane, Ear]:
    ear = Ear()
    dataplane = NftablesDataplane(kernel, settings, ear)
    dataplane.start()
    return dataplane, ear


@pytest.mark.parametrize(
    ("message", "found"),
    [
        (said(objects.DELETE_ELEMENT, name="endpoints"), {4: Damage.ELEMENTS}),
        (said(objects.NEW_ELEMENT, name="cluster-ips", family=10), {6: Damage.ELEMENTS}),
        (said(objects.DELETE_ELEMENT, name="firewall/12"), {4: Damage.STRUCTURE}),
        (said(objects.DELETE_ELEMENT, name=CLIENTS), {}),
        (said(objects.DELETE_TABLE), {4: Damage.STRUCTURE}),
        (said(objects.DELETE_RULE, name="services"), {4: Damage.STRUCTURE}),
        (said(objects.NEW_CHAIN, name="services"), {4: Damage.STRUCTURE}),
        (said(objects.DELETE_ELEMENT, name="endpoints", port=OWN), {}),
        (said(objects.DELETE_TABLE, table="kube-proxy"), {}),
        (said(objects.DELETE_TABLE, family=1), {}),
        (said(15), {}),
    ],
)
def test_what_counts_as_damage(message: wire.Message, found: dict[int, Damage]) -> None:
    assert damage([message], "deltaplane", OWN, weigh) == found
    assert damage([message, message], "deltaplane", OWN, weigh) == found


def test_elements_that_others_take_and_add_are_put_right(kernel: MemoryKernel) -> None:
    dataplane, ear = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    assert not dataplane.drifted()
    sets = kernel.tables[2, "deltaplane"].sets
    sets["endpoints"].elements.popitem()
    sets["cluster-ips"].elements[packed("172.30.0.99")] = b""
    ear.said = [said(objects.DELETE_ELEMENT, name="endpoints")]
    assert dataplane.drifted()
    commit = dataplane.repair()
    assert commit.elements == 2
    assert seen(dataplane.dump()) == expected(STATES["five endpoints"], NODE)
    assert not dataplane.drifted()
    assert dataplane.repair().messages == 0


def test_a_rule_that_is_gone_brings_the_whole_table_back_in_one_transaction(kernel: MemoryKernel) -> None:
    dataplane, ear = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    rules = kernel.tables[2, "deltaplane"].chains["services"].rules
    whole = list(rules)
    rules.pop()
    sent = len(kernel.batches)
    ear.said = [said(objects.DELETE_RULE, name="services")]
    assert dataplane.drifted()
    dataplane.repair()
    assert len(kernel.batches) == sent + 1
    assert kernel.tables[2, "deltaplane"].chains["services"].rules == whole
    assert seen(dataplane.dump()) == expected(STATES["five endpoints"], NODE)


def test_lost_notifications_make_everything_suspect(kernel: MemoryKernel) -> None:
    dataplane, ear = started(kernel)
    dataplane.apply(STICKY, NODE, complete=True)
    del kernel.tables[10, "deltaplane"]
    kernel.tables[2, "deltaplane"].chains["reject-chain"].rules.clear()
    ear.said = None
    assert dataplane.drifted()
    dataplane.repair()
    assert seen(dataplane.dump()) == expected(STICKY, NODE)
    assert kernel.tables[2, "deltaplane"].chains["reject-chain"].rules


def test_a_repair_that_the_kernel_refuses_is_still_needed(kernel: MemoryKernel) -> None:
    dataplane, ear = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    kernel.tables.clear()
    ear.said = [said(objects.DELETE_TABLE)]
    assert dataplane.drifted()
    kernel.refusing = errno.EPERM
    with pytest.raises(KernelUnavailable):
        dataplane.repair()
    assert dataplane.drifted()
    kernel.refusing = 0
    dataplane.repair()
    assert seen(dataplane.dump()) == expected(STATES["one endpoint"], NODE)


class Thief(MemoryKernel):
    """Somebody takes the table of a family away just before a transaction, in this order; 0: none."""

    plan: tuple[int, ...] = ()

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        family, self.plan = (self.plan or (0,))[0], self.plan[1:]
        self.tables.pop((family, "deltaplane"), None)
        return super().commit(batch, first, last)


@pytest.mark.parametrize("before", [(), (2,), (10,), (2, 10)])
@pytest.mark.parametrize("plan", [(2,), (10,), (2, 10), (10, 2), (0, 2), (0, 10), (0, 2, 10), (10, 0, 2)])
def test_tables_taken_away_one_after_another_are_put_back_without_a_failure(
    before: tuple[int, ...], plan: tuple[int, ...]
) -> None:
    kernel = Thief()
    dataplane, _ = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    for family in before:
        del kernel.tables[family, "deltaplane"]
    kernel.plan = plan
    assert dataplane.apply(STATES["one endpoint"], OTHER_NODE).failed == ()
    assert dataplane.repair().failed == ()
    assert seen(dataplane.dump()) == expected(STATES["one endpoint"], OTHER_NODE)


class Stubborn(MemoryKernel):
    """A kernel that says of one map that it is not there, though it lists it."""

    stubborn = False
    asked = 0

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        for message in wire.messages(batch):
            name = wire.as_text(wire.attributes(message.body).get(2, b"")) if message.type & 0xFF < 16 else ""
            if self.stubborn and message.family == 2 and name == "endpoints":
                return [wire.Reply(message.sequence, errno.ENOENT)]
        return super().commit(batch, first, last)

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        self.asked += 1
        return super().ask(request)


def test_what_the_kernel_contradicts_again_and_again_is_refused_in_the_end() -> None:
    kernel = Stubborn()
    dataplane, _ = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    kernel.stubborn = True
    assert {failed.code for failed in dataplane.apply(STATES["five endpoints"]).failed} == {"KERNEL_REJECTED"}
    kernel.asked = 0
    assert {failed.code for failed in dataplane.apply(STATES["five endpoints"]).failed} == {"KERNEL_REJECTED"}
    assert kernel.asked == 0  # it is known by now
    kernel.stubborn = False
    assert dataplane.apply(()).failed == ()
    assert seen(dataplane.dump()) == expected(STATES["five endpoints"], NODE)


@pytest.mark.parametrize("chain", ["services", "cluster-8"])
def test_a_table_whose_rules_were_changed_meanwhile_is_not_adopted(kernel: MemoryKernel, chain: str) -> None:
    started(kernel)[0].apply(STATES["five endpoints"], NODE, complete=True)
    kernel.tables[2, "deltaplane"].chains[chain].rules.pop()
    dataplane, _ = started(kernel)
    assert dataplane.apply(STATES["five endpoints"], NODE, complete=True).messages > 0
    again, _ = started(kernel)
    assert again.apply(STATES["five endpoints"], NODE, complete=True).messages == 0


def test_other_settings_take_effect_without_a_gap_and_keep_the_clients(kernel: MemoryKernel) -> None:
    dataplane, _ = started(kernel)
    dataplane.apply(STICKY, NODE, complete=True)
    clients = kernel.tables[2, "deltaplane"].sets[CLIENTS]
    number = next(iter(kernel.tables[2, "deltaplane"].sets["affinity-slots"].elements.values()))
    clients.elements[packed(OUTSIDE)] = number
    assert send(kernel, source=POD, to="172.30.0.1", port=80) == reaches(1, 2, 3, masqueraded=False)
    (bound,) = send(kernel, source=OUTSIDE, to="172.30.0.1", port=80).ends
    sent = len(kernel.batches)
    dataplane.configure(Settings(("203.0.113.0/24", "fd00:10:180::/48")))
    assert len(kernel.batches) == sent + 1  # IPv6 stays as it is
    assert send(kernel, source=POD, to="172.30.0.1", port=80) == reaches(1, 2, 3, masqueraded=True)
    assert send(kernel, source=OUTSIDE, to="172.30.0.1", port=80).ends == {(*bound[:2], False)}
    assert seen(dataplane.dump()) == expected(STICKY, NODE)
    assert dataplane.configure(Settings(("203.0.113.0/24", "fd00:10:180::/48"))).messages == 0


def test_settings_that_are_none_change_nothing(kernel: MemoryKernel) -> None:
    dataplane, _ = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    for bad in (Settings(("10.0.0.0/99",)), replace(SETTINGS, table="other")):
        with pytest.raises(ValueError, match=r"10\.0\.0\.0/99|other"):
            dataplane.configure(bad)
    assert dataplane.repair().messages == 0


class NoIpv6(MemoryKernel):
    """A kernel that refuses whatever is of IPv6."""

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        refused = [m for m in wire.messages(batch) if m.family == 10]
        return [wire.Reply(refused[0].sequence, errno.EOPNOTSUPP)] if refused else super().commit(batch, first, last)


def test_a_refused_ipv6_table_does_not_hold_back_ipv4() -> None:
    kernel = NoIpv6()
    dataplane, _ = started(kernel)
    failed = dataplane.apply(STATES["five endpoints"], NODE, complete=True).failed
    assert [each.code for each in failed] == ["UNSUPPORTED"]  # its addresses of IPv6
    assert not dataplane.pending()
    assert dataplane.apply(STATES["four others"], NODE, complete=True).messages
    assert seen(dataplane.dump())[4] == expected(STATES["four others"], NODE)[4]
    assert not dataplane.pending()
    assert list(kernel.tables) == [(2, "deltaplane")]


class Vanishing(MemoryKernel):
    """Somebody takes the IPv6 table away: while it is listed, and then right before it is replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.listings_left = self.commits_left = 0

    def ask(self, request: bytes) -> Iterator[wire.Message]:
        (asked,) = wire.messages(request)
        if asked.family == 10 and asked.type & 0xFF == objects.GET_CHAIN and self.listings_left:
            self.listings_left -= 1
            self.tables.pop((10, "deltaplane"), None)
            raise OSError(errno.ENOENT, "no such table")
        return super().ask(request)

    def commit(self, batch: bytes, first: int, last: int) -> list[wire.Reply]:
        if self.commits_left and any(m.family == 10 for m in wire.messages(batch)):
            self.commits_left -= 1
            self.tables.pop((10, "deltaplane"), None)
        return super().commit(batch, first, last)


@pytest.mark.parametrize("when", ["listed", "replaced"])
def test_a_table_that_goes_at_the_wrong_moment_is_no_missing_ipv6(when: str) -> None:
    kernel = Vanishing()
    started(kernel)[0].apply(STATES["five endpoints"], NODE, complete=True)
    if when == "listed":
        kernel.listings_left = 1
    dataplane = NftablesDataplane(kernel, Settings(("10.0.0.0/8",)))  # another program: the tables are replaced
    dataplane.start()
    if when == "replaced":
        kernel.commits_left = 1
    with suppress(KernelUnavailable):  # where it is told, it is tried again
        dataplane.apply(STATES["four others"], NODE, complete=True)
    dataplane.apply(STATES["four others"], NODE, complete=True)
    assert not dataplane.pending()
    assert seen(dataplane.dump()) == expected(STATES["four others"], NODE)


def test_cleanup_takes_away_our_tables_and_kube_proxys_if_asked(kernel: MemoryKernel) -> None:
    started(kernel)[0].apply(STATES["five endpoints"], NODE, complete=True)
    NftablesDataplane(kernel, Settings(table=KUBE_PROXY))
    for family in (2, 10):
        kernel.tables[family, KUBE_PROXY] = kernel.tables[family, "theirs"] = kernel.tables[family, OURS]
    assert tables.delete(kernel, (OURS,)) == ("ip deltaplane", "ip6 deltaplane")
    assert tables.delete(kernel, (OURS, KUBE_PROXY)) == ("ip kube-proxy", "ip6 kube-proxy")
    assert set(kernel.tables) == {(2, "theirs"), (10, "theirs")}
    assert tables.delete(kernel, (OURS, KUBE_PROXY)) == ()


def test_a_cidr_that_is_none_is_that_nodes_trouble(kernel: MemoryKernel) -> None:
    dataplane, _ = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    commit = dataplane.apply([], NodeForwarding(service_cidrs=("10.0.0.0/99",)))
    assert "10.0.0.0/99" in commit.failed[0].text
    assert seen(dataplane.dump()) == expected(STATES["one endpoint"], NODE)
    assert dataplane.apply([], NODE).failed == ()


@pytest.mark.parametrize("others", [0, 1, 3])
def test_who_went_away_to_write_suspects_everything_where_others_wrote_too(others: int) -> None:
    ear = Ear()
    watch = Watch(ear, "deltaplane")
    own = 7
    with watch.away(lambda: own, FAMILIES):
        own += 5
        ear.transactions += 5 + others
    assert watch.damage == (dict.fromkeys(FAMILIES, Damage.ELEMENTS) if others else {})


def test_a_failure_while_away_does_not_leave_it_deaf() -> None:
    ear = Ear()

    def fail() -> None:
        with Watch(ear, "deltaplane").away(lambda: 0, FAMILIES):
            raise KernelUnavailable("no")

    with pytest.raises(KernelUnavailable):
        fail()
    assert ear.here
