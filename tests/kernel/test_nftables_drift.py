"""Others at our tables, on the real kernel: heard at once and put right; our own changes are not heard."""

from __future__ import annotations

import select
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import ServiceForwarding
from nodeagent.dataplane.modes.nftables import OURS
from nodeagent.dataplane.nftables.dataplane import MANY, NftablesDataplane
from nodeagent.dataplane.nftables.settings import Settings
from nodeagent.linux.netlink import wire
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.tables import KUBE_PROXY, delete
from tests.kernel.nftables_support import dataplane, nft
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    RANGES,
    SETTINGS,
    STATES,
    VIP,
    all_sticky,
    both,
    cluster_ip,
    expected,
    external,
    seen,
    service,
    targets,
)
from tools.lab import netns
from tools.lab.netns import Namespace

pytestmark = pytest.mark.kernel

STATE = (all_sticky(both("web", 1, 2, 3)), service("balanced", external(VIP, targets(1, 2), RANGES)))
CLIENTS = "affinity/default/web/p/tcp"


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = netns.create("drift")
    yield made
    netns.delete(made)


def heard(made: NftablesDataplane) -> bool:
    """Whether anything was said; the kernel says it while it is done."""
    return bool(select.select([made.fileno()], [], [], 0)[0])


def rules(space: Namespace) -> list[str]:
    """Everything but elements, in no order."""
    return sorted(nft(space, "--terse", "list", "ruleset").splitlines())


def test_our_own_changes_are_not_heard(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        for state in STATES.values():
            made.apply(state, NODE, complete=True)
            assert not heard(made)
        assert not made.drifted()


@pytest.mark.parametrize(
    "command",
    [
        "flush ruleset",
        "delete table ip deltaplane",
        "delete element ip deltaplane cluster-ips { 172.30.0.1 }",
        "add element ip deltaplane cluster-ips { 172.30.0.77 }",
        "add element ip deltaplane nodeport-anywhere { tcp }",
        "flush map ip deltaplane service-ips",
        "flush map ip6 deltaplane affinity-slots",
        "flush set ip deltaplane FIREWALL",
        "flush chain ip deltaplane services",
        "add rule ip deltaplane reject-chain accept",
        "flush chain ip6 deltaplane cluster-4/10800/default/web/p/tcp",
        "add chain ip deltaplane theirs",
        "add table ip deltaplane { flags dormant; }",
    ],
)
def test_what_others_do_is_heard_and_put_right(space: Namespace, command: str) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        made.apply(STATE, NODE, complete=True)
        before = rules(space)
        firewall = next(line.split()[1] for line in before if line.strip().startswith("set firewall/"))
        nft(space, "-f", "-", stdin=command.replace("FIREWALL", firewall))
        assert heard(made)
        assert made.drifted()
        made.repair()
        assert rules(space) == before
        assert seen(made.dump()) == expected(STATE, NODE)
        assert not heard(made)
        assert not made.drifted()
        assert made.repair().messages == 0


def test_a_lost_element_is_one_element_to_write(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        made.apply(STATE, NODE, complete=True)
        nft(space, "delete", "element", "ip", "deltaplane", "cluster-ips", "{ 172.30.0.1 }")
        assert made.drifted()
        assert made.repair().elements == 1


def test_what_others_do_elsewhere_is_no_drift(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, kernel):
        made.apply(STATE, NODE, complete=True)
        nft(space, "-f", "-", stdin="table ip theirs { chain c { accept; }; }; table inet deltaplane { chain c { }; }")
        nft(space, "add", "element", "ip", "deltaplane", CLIENTS, "{ 10.9.9.9 timeout 60s : 0:10 }")
        listings = kernel.listings
        assert heard(made)
        assert not made.drifted()
        assert kernel.listings == listings


def test_other_settings_keep_the_clients_and_replace_only_what_is_another(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, kernel):
        made.apply(STATE, NODE, complete=True)
        nft(space, "add", "element", "ip", "deltaplane", CLIENTS, "{ 10.9.9.9 timeout 60s expires 50s : 0:10 }")
        assert not made.drifted()
        transactions = kernel.transactions
        made.configure(replace(SETTINGS, cluster_cidrs=("10.0.0.0/8", SETTINGS.cluster_cidrs[1])))
        assert kernel.transactions == transactions + 1
        assert seen(made.dump()) == expected(STATE, NODE)
        listed = nft(space, "list", "table", "ip", "deltaplane")
        assert "ip saddr != 10.0.0.0/8 ip daddr @cluster-ips" in listed
        assert "10.9.9.9 timeout 1m expires 4" in listed or "10.9.9.9 timeout 1m expires 50s" in listed
        assert not heard(made)
    with dataplane(space, Settings(interface="cni*")) as (made, _):
        made.apply(STATE, NODE, complete=True)
        assert "10.9.9.9 timeout 1m" in nft(space, "list", "table", "ip", "deltaplane")


def test_cleanup_leaves_other_tables_alone(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, _):
        made.apply(STATE, NODE, complete=True)
    nft(space, "-f", "-", stdin="table ip kube-proxy { }; table ip6 theirs { }")
    with space.entered():
        kernel = NetlinkKernel()
    assert delete(kernel, (OURS, KUBE_PROXY)) == ("ip deltaplane", "ip6 deltaplane", "ip kube-proxy")
    assert delete(kernel, (OURS, KUBE_PROXY)) == ()
    kernel.close()
    assert nft(space, "list", "tables").split() == ["table", "ip6", "theirs"]


def many(last: int) -> tuple[ServiceForwarding, ...]:
    """So many Services that they are written without listening."""
    return tuple(
        service(f"many-{n}", cluster_ip(f"172.31.{n >> 8}.{n & 255}", targets(1, last))) for n in range(MANY + 100)
    )


def test_a_big_write_is_not_heard_and_compares_nothing(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, kernel):
        made.apply((), NODE, complete=True)
        listings = kernel.listings
        made.apply(many(2), complete=True)
        assert kernel.listings - listings == 2  # the two generations
        assert not heard(made)
        nft(space, "add table ip another")
        assert heard(made)


def test_what_others_do_during_a_big_write_is_put_right_with_it(space: Namespace) -> None:
    with dataplane(space, SETTINGS) as (made, kernel):
        made.apply(many(2), NODE, complete=True)
        before, commit = made.dump(), kernel.commit

        def disturbed(batch: bytes, first: int, last: int) -> list[wire.Reply]:
            replies = commit(batch, first, last)
            kernel.commit = commit  # type: ignore[method-assign]
            nft(space, "delete element ip deltaplane cluster-ips { 172.31.0.1 }")
            return replies

        kernel.commit = disturbed  # type: ignore[method-assign]
        made.apply(many(3), complete=True)
        assert made.dump()[4]["cluster-ips"] == before[4]["cluster-ips"]
        assert not made.pending()
