"""The nftables backend on the real kernel: walks, the stock tool's view, isolation, adoption."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from deltaplane.forwarding import Entry, Frontend, FrontendKind, Masquerade, Verdict
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables import listing
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.nftables.program import SAMPLE_RANGES, Settings, program
from nodeagent.dataplane.set_members import OWN_PODS
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft import objects, tables
from nodeagent.linux.nft.expressions import NFPROTO
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.program import Part
from tests.fakes.nftables.memory import MemoryKernel
from tests.kernel.nftables_support import dataplane, nft
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    SETTINGS,
    STATES,
    both,
    cluster_ip,
    expected,
    key,
    seen,
    service,
    targets,
)
from tools.lab import netns
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel

STICKY = "/10800/default/web//tcp"
SHARED = (
    *("external-local-8-4", "nodeport-local-4-0", "external-4", "nodeport-8", "cluster-4", "firewall/1234"),
    *(name + STICKY for name in ("external-local-8-4", "nodeport-local-4-8", "nodeport-4")),
)
PLAIN = Settings(SETTINGS.cluster_cidrs)
CHOICES = {
    "cidrs": PLAIN,
    "no detector": Settings(),
    "odd cidrs": Settings(("10.32.0.0/11", "fd00::/45")),
    "every address is local": Settings(("0.0.0.0/0", "::/0")),
    "a bridge": Settings(interface="cni0"),
    "interfaces by prefix": Settings(interface="veth*"),
    "all masqueraded": Settings(SETTINGS.cluster_cidrs, masquerade_all=True, masquerade_bit=20),
}


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = netns.create("nft")
    yield made
    netns.delete(made)


@pytest.fixture
def other() -> Iterator[Namespace]:
    made = netns.create("nft-other")
    yield made
    netns.delete(made)


@pytest.mark.parametrize("after", STATES)
def test_from_every_state_to_this_state(space: Namespace, after: str) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        for before in STATES:
            made.apply(STATES[before], NODE, complete=True)
            assert made.apply(STATES[after], complete=True).failed == ()
            assert seen(made.dump()) == expected(STATES[after], NODE)
            assert not made.pending()
            assert made.apply(STATES[after], NODE, complete=True).messages == 0


def test_the_kernel_in_memory_ends_with_the_same_elements(space: Namespace) -> None:
    memory = NftablesDataplane(MemoryKernel(), SETTINGS)
    memory.start()
    with dataplane(space, SETTINGS) as (made, _):
        for state in STATES.values():
            assert made.apply(state, NODE, complete=True) == memory.apply(state, NODE, complete=True)
            assert made.dump() == memory.dump()


@pytest.mark.parametrize("before", ["five endpoints", "local policy", "two protocols", "dropped"])
def test_a_restart_adopts_and_writes_only_what_differs(space: Namespace, before: str) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        made.apply(STATES[before], NODE, complete=True)
    with dataplane(space, SETTINGS) as (made, kernel):
        assert made.apply(STATES[before], NODE, complete=True).messages == 0
        assert kernel.transactions == 0
        made.apply(STATES["two services"], NODE, complete=True)
        assert seen(made.dump()) == expected(STATES["two services"], NODE)


def test_other_settings_replace_the_table_in_one_transaction(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        made.apply(STATES["five endpoints"], NODE, complete=True)
    with dataplane(space, Settings(("10.0.0.0/8",))) as (made, kernel):
        assert made.apply(STATES["four others"], NODE).messages == 0
        made.apply(STATES["four others"], NODE, complete=True)
        assert kernel.transactions == 2  # one for each family
        assert seen(made.dump()) == expected(STATES["four others"], NODE)
        assert "ip saddr != 10.0.0.0/8 ip daddr @cluster-ips" in nft(space, "list", "table", "ip", "deltaplane")


def test_a_refused_object_is_found_and_the_others_go_on(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(widths, "check", lambda entry: None)  # so that something comes to the kernel that it refuses
    good = [service(f"s{n}", cluster_ip(f"172.30.1.{n}", targets(1, 2))) for n in range(50)]
    broken = Frontend(FrontendKind.EXTERNAL_IP, 4, b"12345678", 6, 80)
    bad = service("bad", Entry(broken, "p", targets(1), Verdict.FORWARD, Masquerade.ALWAYS))
    with dataplane(space, SETTINGS) as (made, kernel):
        commit = made.apply([*good[:20], bad, *good[20:]], NODE, complete=True)
        assert [(failed.key, failed.code) for failed in commit.failed] == [(key("bad"), "KERNEL_REJECTED")]
        assert "Invalid argument (nft add element ip deltaplane " in commit.failed[0].text
        assert seen(made.dump()) == expected(tuple(good), NODE)
        assert kernel.transactions <= 8
        assert made.apply([service("bad")]).failed == ()
        assert not made.pending()


def test_one_endpoint_among_a_thousand_services_is_four_messages_and_no_listing(space: Namespace) -> None:
    services = [service(f"s{n}", cluster_ip(f"172.30.{n >> 8}.{n & 255}", targets(1, 2, 3))) for n in range(1000)]
    with dataplane(space, SETTINGS) as (made, kernel):
        made.apply(services, NODE, complete=True)
        listings, transactions = kernel.listings, kernel.transactions
        commit = made.apply([service("s7", cluster_ip("172.30.0.7", targets(1, 2, 9)))])
        assert (commit.messages, commit.elements) == (4, 2)
        assert commit.size < 300
        assert (kernel.listings, kernel.transactions) == (listings, transactions + 1)


def test_the_stock_tool_lists_a_thousand_services_and_loads_its_own_listing(space: Namespace, other: Namespace) -> None:
    services = [service(f"s{n}", cluster_ip(f"172.30.{n >> 8}.{n & 255}", targets(1, 2, 3))) for n in range(1000)]
    with dataplane(space, SETTINGS) as (made, _):
        made.apply([*services, both("web", 1, 2)], NODE, complete=True)
        listed = nft(space, "list", "ruleset")
        assert "typeof ip daddr . meta l4proto . th dport . numgen random mod 65536 : ip daddr . th dport" in listed
        assert len(re.findall(r"172\.30\.\d+\.\d+ \. tcp \. 80 : goto cluster-4", listed)) == 1000
        assert "172.30.0.7 . tcp . 80 . 2 : 10.180.1.3 . 8080" in listed
        assert "30080 : goto nodeport-4" in listed
        nft(other, "-f", "-", stdin=listed)
        with dataplane(other, SETTINGS) as (copy, _):
            assert bounded(copy.dump()) == made.dump()
            assert copy.apply([*services, both("web", 1, 2)], NODE, complete=True).messages == 0


def bounded(found: dict[int, listing.Dump]) -> dict[int, listing.Dump]:
    """Without the end before every range that nft puts into the interval sets it loads."""
    return {
        family: {name: {key: end for key, end in held.items() if any(key)} if name == OWN_PODS else held
                 for name, held in sets.items()}
        for family, sets in found.items()
    }  # fmt: skip


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("choice", CHOICES)
def test_our_bytes_are_those_the_stock_tool_writes(
    space: Namespace, other: Namespace, family: int, choice: str
) -> None:
    wanted = program(family, CHOICES[choice])
    nft(space, "-f", "-", stdin=wanted.text(wanted.samples(*SHARED)))
    with other.entered():
        ours = NetlinkKernel()
    batch = _installation(family, CHOICES[choice])
    assert ours.commit(*batch) == []
    with space.entered():
        theirs = NetlinkKernel()
    for what, operation in (("sets", 10), ("rules", 7), ("chains", 4)):
        assert _listed(ours, family, operation) == _listed(theirs, family, operation), what
    assert tables.comment(ours, wanted.table) == tables.comment(theirs, wanted.table) == wanted.table.comment
    ours.close()
    theirs.close()


def _installation(family: int, settings: Settings) -> tuple[bytes, int, int]:
    from nodeagent.linux.nft.transaction import Batch

    wanted, batch = program(family, settings), Batch("deltaplane", 1)
    batch.install(wanted)
    parts = [wanted.part(name, SAMPLE_RANGES[family]) for name in SHARED]
    chains = {chain.name: chain for part in parts for chain in part.chains}
    batch.part(family, Part(tuple(chains.values()), tuple({s.name: s for part in parts for s in part.sets}.values())))
    return batch.data(), batch.first, batch.last


def _listed(kernel: NetlinkKernel, family: int, operation: int) -> dict[object, list[object]]:
    """What stands in the kernel without numbers that depend on the order of creation."""
    changing = {objects.GET_CHAIN: (2,), 7: (3, 6), 10: (16, 19)}[operation]
    found: dict[object, list[object]] = {}
    request = wire.request(operation, wire.DUMP, 9, NFPROTO[family], wire.text(1, "deltaplane"))
    for message in kernel.ask(request):
        attributes = {k: v for k, v in wire.attributes(message.body).items() if k not in changing}
        name = attributes[3 if operation == objects.GET_CHAIN else 2]
        found.setdefault(name, []).append(attributes)
    return found


def test_without_the_capability_the_start_says_what_to_do(space: Namespace) -> None:
    import ctypes
    import os

    def attempt() -> str:
        libc = ctypes.CDLL(None, use_errno=True)
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        data = (ctypes.c_uint32 * 6)()
        assert libc.syscall(126, header, data) == 0, os.strerror(
            ctypes.get_errno()
        )  # capset: this thread has none left
        try:
            NftablesDataplane(NetlinkKernel(), SETTINGS).start()
        except DataplaneUnavailable as error:
            return str(error)
        return ""

    with space.entered():
        text = netns.in_thread(attempt)
    assert text == (
        "nftables: asking for table deltaplane failed (Operation not permitted): "
        "give the agent CAP_NET_ADMIN in this network namespace"
    )
