"""The dataplane on the real programs, in both flavours: any state after any other, adoption, others, clean-up."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding
from nodeagent.dataplane.iptables import drift, naming
from nodeagent.dataplane.iptables.kinds import required
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.iptables.flavour import detect
from nodeagent.linux.iptables.programs import Flavour
from nodeagent.linux.iptables.trial import probe
from tests.kernel.iptables_support import FLAVOURS, clean, dataplane, tables
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES, all_sticky, both, cluster_ip, service, targets
from tools.lab import netns
from tools.lab.netns import Namespace
from tools.lab.rules import run

pytestmark = pytest.mark.kernel

EVERYWHERE = NodeForwarding((), (4, 6))
STATE = (all_sticky(both("web", 1, 2, 3)), service("other", cluster_ip("172.30.0.9", targets(4))))


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = netns.create("iptables")
    run(made, "ip", "link", "set", "lo", "up")
    yield made
    netns.delete(made)


@pytest.fixture
def other() -> Iterator[Namespace]:
    made = netns.create("iptables-other")
    yield made
    netns.delete(made)


@FLAVOURS
def test_states_after_one_another_end_in_what_a_fresh_start_makes(
    space: Namespace, other: Namespace, flavour: Flavour
) -> None:
    with dataplane(space, flavour) as made:
        # Last, node ports everywhere: the guard of loopback stays where it once was.
        for name, state, node in (*((name, state, NODE) for name, state in STATES.items()), ("", STATE, EVERYWHERE)):
            assert not made.apply(state, node, complete=True).failed
            clean(other)
            with dataplane(other, flavour) as fresh:
                fresh.apply(state, node, complete=True)
            for family in (4, 6):
                assert tables(space, flavour, family) == tables(other, flavour, family), name
            with dataplane(space, flavour) as again:
                assert again.adopted is any(one.entries for one in state)
                assert again.apply(state, node, complete=True) == Commit(), name


@FLAVOURS
def test_our_own_changes_are_no_drift(space: Namespace, flavour: Flavour) -> None:
    with dataplane(space, flavour) as made:
        for state in STATES.values():
            made.apply(state, NODE, complete=True)
        if flavour is Flavour.NFT:
            assert not select.select([made.fileno()], [], [], 0)[0]
        assert not made.drifted()


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize(
    "commands",
    [
        ["-t nat -F KUBE-SERVICES"],
        ["-t nat -D PREROUTING 1"],
        ["-t filter -F"],
        ["-t nat -F", "-t nat -X", "-t filter -F", "-t filter -X", "-t mangle -X"],
        ["-t mangle -X KUBE-PROXY-CANARY"],
    ],
    ids=" ".join,
)
@FLAVOURS
def test_what_others_take_away_is_noticed_and_put_back(
    space: Namespace, flavour: Flavour, commands: list[str], family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "INTERVAL", 1)
    program = f"ip{'6' if family == 6 else ''}tables-{flavour.value}"
    with dataplane(space, flavour) as made:
        made.apply(STATE, NODE, complete=True)
        before = tables(space, flavour, family)
        assert not made.drifted()
        for command in commands:
            run(space, program, *command.split())
        assert select.select([made.fileno()], [], [], 20)[0]
        assert made.drifted()
        assert made.repair().messages == 1
        assert tables(space, flavour, family) == before
        if flavour is Flavour.NFT:
            assert not made.drifted()


@FLAVOURS
def test_a_start_that_writes_nothing_notices_others_too(
    space: Namespace, flavour: Flavour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drift, "INTERVAL", 1)
    with dataplane(space, flavour) as made:
        made.apply(STATE, NODE, complete=True)
    with dataplane(space, flavour) as made:
        assert made.apply(STATE, NODE, complete=True) == Commit()
        assert not made.drifted()
        run(space, f"iptables-{flavour.value}", "-t", "nat", "-F", naming.SERVICES)
        assert select.select([made.fileno()], [], [], 20)[0]
        assert made.drifted()
        assert made.repair().messages == 1


@FLAVOURS
def test_what_others_did_just_before_our_own_change_is_noticed_too(space: Namespace, flavour: Flavour) -> None:
    with dataplane(space, flavour) as made:
        made.apply(STATE, NODE, complete=True)
        before = tables(space, flavour)
        run(space, f"iptables-{flavour.value}", "-t", "nat", "-F", naming.MARK_MASQ)
        made.apply([service("new", cluster_ip("172.30.0.7", targets(1)))])
        assert made.drifted()
        made.apply(STATE, complete=True)
        made.repair()
        assert tables(space, flavour) == before


def test_others_rules_elsewhere_are_not_our_concern(space: Namespace) -> None:
    with dataplane(space, Flavour.NFT) as made:
        made.apply(STATE, NODE, complete=True)
        run(space, "iptables-nft", "-A", "FORWARD", "-s", "10.9.9.9", "-j", "DROP")
        run(space, "nft", "add", "table", "ip", "mine")
        assert not made.drifted()


@FLAVOURS
def test_what_the_kernel_refuses_is_named_and_holds_nobody_back(space: Namespace, flavour: Flavour) -> None:
    """A list of clients can be kept for a time that fits into 32 bits."""
    bad = all_sticky(service("bad", cluster_ip("172.30.0.66", targets(1))), 1 << 40)
    with dataplane(space, flavour) as made:
        done = made.apply([bad, *STATE], NODE, complete=True)
        assert [(failed.key, failed.code) for failed in done.failed] == [(bad.key, "KERNEL_REJECTED")]
        assert "172.30.0.9" in str(tables(space, flavour))
        assert made.pending()
        good = replace(bad, entries=tuple(replace(entry, affinity_seconds=0) for entry in bad.entries))
        assert not made.apply([good]).failed
        assert not made.pending()


@FLAVOURS
def test_clean_up_removes_ours_in_both_flavours_and_nothing_else(space: Namespace, flavour: Flavour) -> None:
    program = f"iptables-{flavour.value}"
    run(space, program, "-N", "MINE")
    run(space, program, "-A", "FORWARD", "-j", "MINE")
    before = tables(space, flavour)
    with dataplane(space, flavour) as made:
        made.apply(STATE, NODE, complete=True)
    removed = clean(space)
    assert sum(what.startswith("counter ") for what in removed) == len(removed) - 6
    assert clean(space) == ()
    assert tables(space, flavour)["filter"] == before["filter"]
    assert not any("KUBE" in line for lines in tables(space, flavour, 6).values() for line in lines)


def test_the_kubelets_chains_stay(space: Namespace) -> None:
    run(space, "iptables-nft", "-t", "mangle", "-N", "KUBE-KUBELET-CANARY")
    with dataplane(space, Flavour.NFT) as made:
        made.apply(STATE, EVERYWHERE, complete=True)
    clean(space)
    text = str(tables(space, Flavour.NFT))
    assert "KUBE-FIREWALL" in text
    assert "KUBE-KUBELET-CANARY" in text
    assert "KUBE-SERVICES" not in text


def test_nothing_is_left_after_clean_up_where_nothing_was(space: Namespace) -> None:
    with dataplane(space, Flavour.NFT) as made:
        made.apply(STATE, NODE, complete=True)
    clean(space)
    assert run(space, "nft", "list", "ruleset") == ""


@FLAVOURS
def test_the_probe_leaves_nothing(space: Namespace, flavour: Flavour) -> None:
    with space.entered():
        probe(required(4), flavour)
    assert run(space, "nft", "list", "ruleset") == ""
    assert "PROBE" not in str(tables(space, flavour))


def test_a_machine_without_iptables_says_so(space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodeagent.linux.iptables.programs.shutil.which", lambda *_, **__: None)
    with pytest.raises(DataplaneUnavailable, match="install iptables"):
        probe(required(4))


def test_the_flavour_in_use_is_found(space: Namespace) -> None:
    with space.entered():
        assert detect() is Flavour.NFT
    run(space, "iptables-legacy", "-A", "INPUT", "-j", "ACCEPT")
    with space.entered():
        assert detect() is Flavour.LEGACY
    run(space, "iptables-nft", "-t", "mangle", "-N", "KUBE-IPTABLES-HINT")
    with space.entered():
        assert detect() is Flavour.NFT


def test_a_legacy_count_comes_seldom_where_it_finds_nothing_of_ours(space: Namespace) -> None:
    with dataplane(space, Flavour.LEGACY) as made:
        made.apply(STATE, NODE, complete=True)
        run(space, "iptables-legacy", "-A", "FORWARD", "-j", "ACCEPT")
        assert made.repair() == Commit()
        time.sleep(0.01)
        assert not made.drifted()
