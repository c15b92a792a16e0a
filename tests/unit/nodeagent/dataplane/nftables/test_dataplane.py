"""The dataplane on the in-memory kernel: walks between states, what is written, what is reported, what is adopted."""

from __future__ import annotations

import errno
from functools import cache

import pytest

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.netlink import wire
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    SETTINGS,
    STATES,
    VIP,
    both,
    cluster_ip,
    expected,
    external,
    key,
    node_port,
    packed,
    seen,
    service,
    targets,
)


def started(kernel: MemoryKernel, settings: Settings = SETTINGS) -> NftablesDataplane:
    dataplane = NftablesDataplane(kernel, settings)
    dataplane.start()
    return dataplane


def private(kernel: MemoryKernel) -> set[str]:
    """The names of everything that is there for some Services only."""
    return {name for table in kernel.tables.values() for name in (*table.chains, *table.sets) if "/" in name}


@cache
def private_of(state: str) -> set[str]:
    """The same as a node has it that knew nothing but this state."""
    fresh = MemoryKernel()
    started(fresh).apply(STATES[state], NODE, complete=True)
    return private(fresh)


@pytest.fixture
def kernel() -> MemoryKernel:
    return MemoryKernel()


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_from_every_state_to_every_state(kernel: MemoryKernel, before: str, after: str) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES[before], NODE, complete=True)
    commit = dataplane.apply(STATES[after], complete=True)
    assert commit.failed == ()
    assert seen(dataplane.dump()) == expected(STATES[after], NODE)
    assert not dataplane.pending()
    assert dataplane.apply(STATES[after], NODE, complete=True).messages == 0
    assert private(kernel) == private_of(after)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_restart_adopts_and_writes_only_what_differs(kernel: MemoryKernel, before: str, after: str) -> None:
    started(kernel).apply(STATES[before], NODE, complete=True)
    dataplane = started(kernel)
    commit = dataplane.apply(STATES[after], NODE, complete=True)
    assert seen(dataplane.dump()) == expected(STATES[after], NODE)
    assert (commit.messages == 0) is (before == after)
    assert private(kernel) == private_of(after)


def test_nothing_adopted_is_removed_before_the_first_complete_apply(kernel: MemoryKernel) -> None:
    started(kernel).apply(STATES["two services"], NODE, complete=True)
    dataplane = started(kernel)
    dataplane.apply([service("new", cluster_ip("172.30.0.9", targets(1)))])
    assert packed("172.30.0.5") in dataplane.dump()[4]["cluster-ips"]
    dataplane.apply([service("new", cluster_ip("172.30.0.9", targets(1)))], complete=True)
    assert set(dataplane.dump()[4]["cluster-ips"]) == {packed("172.30.0.9")}


def test_node_port_addresses_stay_until_the_node_is_known(kernel: MemoryKernel) -> None:
    started(kernel).apply(STATES["one endpoint"], NODE, complete=True)
    dataplane = started(kernel)
    assert dataplane.apply(STATES["one endpoint"], complete=True).messages == 0
    dataplane.apply([], NodeForwarding())
    assert dataplane.dump()[4]["nodeport-ips"] == {}


@pytest.mark.parametrize("size", [10, 1000])
def test_one_endpoint_costs_the_same_in_a_large_cluster(kernel: MemoryKernel, size: int) -> None:
    services = [service(f"s{n}", cluster_ip(f"172.30.{n >> 8}.{n & 255}", targets(1, 2, 3))) for n in range(size)]
    dataplane = started(kernel)
    dataplane.apply(services, NODE, complete=True)
    listings = kernel.listings
    commit = dataplane.apply([service("s7", cluster_ip("172.30.0.7", targets(1, 2, 9)))])
    assert (commit.messages, commit.elements) == (4, 2)
    assert commit.size == len(kernel.batches[-1]) < 300
    assert kernel.listings == listings


def test_elements_of_one_map_share_messages_of_bounded_size(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply([], NODE, complete=True)
    many = tuple(sorted(Target(bytes((10, 180, n >> 8, n & 255)), 80) for n in range(1200)))
    commit = dataplane.apply([service("big", cluster_ip("172.30.0.1", many))])
    received = list(wire.messages(kernel.batches[-1]))
    elements = [message for message in received if message.type & 0xFF == 12]
    assert len(elements) == 3 + 1 + 1
    assert commit.elements == 1202
    assert [bool(message.flags & wire.ACK) for message in received[-3:]] == [False, True, False]


def test_a_table_of_another_program_is_replaced_in_one_transaction_when_all_is_known(kernel: MemoryKernel) -> None:
    started(kernel).apply(STATES["five endpoints"], NODE, complete=True)
    dataplane = started(kernel, Settings(("10.0.0.0/8",)))
    sent = len(kernel.batches)
    assert dataplane.apply(STATES["four others"], NODE).messages == 0
    assert dataplane.pending()
    dataplane.apply(STATES["four others"], NODE, complete=True)
    assert len(kernel.batches) == sent + 2  # one for each family
    assert seen(dataplane.dump()) == expected(STATES["four others"], NODE)
    assert not dataplane.pending()


def bad(name: str) -> ServiceForwarding:
    frontend = Frontend(FrontendKind.EXTERNAL_IP, 4, b"\x01\x02\x03\x04\x05\x06\x07\x08", 6, 80)
    return service(name, Entry(frontend, "p", targets(1), Verdict.FORWARD, Masquerade.ALWAYS))


@pytest.mark.parametrize("count", [1, 3, 20])
def test_a_refused_object_is_reported_and_the_others_go_on(
    kernel: MemoryKernel, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(widths, "check", lambda entry: None)  # so that something comes to the kernel that it refuses
    dataplane = started(kernel)
    good = [service(f"s{n}", cluster_ip(f"172.30.1.{n}", targets(1, 2))) for n in range(50)]
    spoiled = [bad(f"bad{n}")for n in range(1)] + [
        service(f"odd{n}", Entry(Frontend(FrontendKind.EXTERNAL_IP, 4, bytes((n, 1, 1, 1, 1, 1, 1, 1)), 6, 80), "p",
                                 targets(1), Verdict.FORWARD, Masquerade.ALWAYS))
        for n in range(100, 99 + count)
    ]  # fmt: skip
    commit = dataplane.apply([*good[:25], *spoiled, *good[25:]], NODE, complete=True)
    assert {failed.key for failed in commit.failed} == {one.key for one in spoiled}
    assert {failed.code for failed in commit.failed} == {"KERNEL_REJECTED"}
    assert "Invalid argument (nft add element ip deltaplane " in commit.failed[0].text
    assert seen(dataplane.dump()) == expected(tuple(good), NODE)
    assert dataplane.pending()
    healed = dataplane.apply([service(one.key.name) for one in spoiled])
    assert healed.failed == ()
    assert not dataplane.pending()


def test_source_ranges_that_cannot_be_are_that_services_trouble_alone(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    odd = service("odd", external(VIP, targets(1), ("2001:db8::/32",)))
    commit = dataplane.apply([odd, both("web", 1)], NODE, complete=True)
    assert [(failed.key, failed.code) for failed in commit.failed] == [(key("odd"), "KERNEL_REJECTED")]
    assert seen(dataplane.dump()) == expected((both("web", 1),), NODE)


def test_more_endpoints_than_slots_is_that_services_trouble_alone(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    many = tuple(Target(n.to_bytes(4, "big"), 80) for n in range(32_769))
    commit = dataplane.apply([service("huge", cluster_ip("172.30.0.1", many)), both("web", 1)], NODE, complete=True)
    assert [(failed.key, failed.code) for failed in commit.failed] == [(key("huge"), "INVALID_OBJECT")]
    assert seen(dataplane.dump()) == expected((both("web", 1),), NODE)


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS, errno.ENOMEM])
def test_a_refusing_kernel_keeps_the_wish_pending(kernel: MemoryKernel, code: int) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    kernel.refusing = code
    with pytest.raises(KernelUnavailable):
        dataplane.apply(STATES["five endpoints"])
    assert dataplane.pending()
    kernel.refusing = 0
    dataplane.apply([])
    assert seen(dataplane.dump()) == expected(STATES["five endpoints"], NODE)


def test_where_the_kernel_cannot_be_opened_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> MemoryKernel:
        raise DataplaneUnavailable("nftables: this kernel has no netfilter netlink")

    monkeypatch.setattr("nodeagent.dataplane.nftables.dataplane.NetlinkKernel", absent)
    with pytest.raises(DataplaneUnavailable, match="no netfilter netlink"):
        NftablesDataplane().start()


def test_a_node_port_goes_from_one_service_to_another_in_any_order(kernel: MemoryKernel) -> None:
    """Whose it is, is decided before; here the last word counts, whichever of the two Services comes first."""
    dataplane = started(kernel)
    first, second = service("a", node_port(30080, targets(1))), service("b", node_port(30080, targets(2)))
    dataplane.apply([first], NODE, complete=True)
    assert dataplane.apply([second, service("a")]).failed == ()
    assert seen(dataplane.dump()) == expected((second,), NODE)
    dataplane.apply([service("b"), first])
    assert seen(dataplane.dump()) == expected((first,), NODE)


def test_a_reading_that_failed_is_done_again_before_anything_is_sent(
    kernel: MemoryKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    sent = len(kernel.batches)

    def full(*_: object) -> None:
        raise OSError(errno.ENOBUFS, "")

    with monkeypatch.context() as patched:
        patched.setattr("nodeagent.dataplane.nftables.inventory.take", full)
        with pytest.raises(KernelUnavailable):
            dataplane.repair()
    assert dataplane.pending()
    dataplane.apply([])
    assert len(kernel.batches) == sent
    assert not dataplane.pending()


def test_a_table_taken_away_comes_back_whole(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["two services"], NODE, complete=True)
    kernel.tables.clear()
    dataplane.apply([both("web", 1, 2)])
    left = (both("web", 1, 2), STATES["two services"][1])
    assert seen(dataplane.dump()) == expected(left, NODE)


def test_elements_changed_behind_our_back_are_put_right(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    held = kernel.tables[2, "deltaplane"].sets["endpoints"].elements
    gone = [element for element in held if int.from_bytes(element[-4:], "little") in (0, 2)]
    for element in gone:
        del held[element]
    commit = dataplane.apply(STATES["four others"])
    assert commit.failed == ()
    assert seen(dataplane.dump()) == expected(STATES["four others"], NODE)


def test_a_family_the_kernel_lacks_is_left_out() -> None:
    kernel = MemoryKernel(families=(4,))
    dataplane = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    assert list(kernel.tables) == [(2, "deltaplane")]
    assert seen(dataplane.dump())[4] == expected(STATES["five endpoints"], NODE)[4]


def test_a_cluster_cidr_that_is_none_is_said_at_the_start(kernel: MemoryKernel) -> None:
    with pytest.raises(DataplaneUnavailable, match=r"cluster CIDR: .*10.0.0.0/99.*correct"):
        started(kernel, Settings(("10.0.0.0/99",)))
