"""Which flavour is chosen, what a listing says, and what is removed at the end."""

from __future__ import annotations

import pytest

from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.cleanup import chosen
from nodeagent.dataplane.iptables.kinds import optional, required
from nodeagent.linux.iptables.flavour import Traces, choose
from nodeagent.linux.iptables.programs import Flavour, complaint
from nodeagent.linux.iptables.saved import jumps_to, listing, removal
from nodeagent.linux.iptables.trial import trial
from tests.fakes.iptables.memory import MemoryIptables
from tests.unit.nodeagent.dataplane.iptables.tracing import programmed
from tests.unit.nodeagent.dataplane.nftables.walks import STATES, both

NFT, LEGACY = Flavour.NFT, Flavour.LEGACY


@pytest.mark.parametrize(
    ("found", "chosen"),
    [
        ({}, None),
        ({LEGACY: Traces()}, LEGACY),
        ({NFT: Traces(), LEGACY: Traces()}, NFT),
        ({NFT: Traces(rules=3), LEGACY: Traces(rules=4)}, LEGACY),
        ({NFT: Traces(rules=4), LEGACY: Traces(rules=4)}, NFT),
        ({NFT: Traces(rules=40), LEGACY: Traces(hinted=True)}, LEGACY),
        ({NFT: Traces(hinted=True), LEGACY: Traces(hinted=True, rules=9)}, NFT),
    ],
)
def test_the_flavour_that_the_kubelet_uses_else_the_one_with_more_rules(
    found: dict[Flavour, Traces], chosen: Flavour | None
) -> None:
    assert choose(found) is chosen


def test_a_listing_is_read_without_counters_and_comments() -> None:
    text = "# x\n*nat\n:INPUT ACCEPT [1:2]\n:KUBE-X - [0:0]\n-A INPUT -j KUBE-X\n-A KUBE-X\nCOMMIT\n"
    assert listing(text) == {"INPUT": ["-j KUBE-X"], "KUBE-X": [""]}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ("iptables-restore: line 6 failed\n", "line 6 failed"),
        (
            "iptables-nft-restore v1.8.9 (nf_tables): \nline 3: RULE_APPEND failed (No such file): rule in chain A\n",
            "line 3: RULE_APPEND failed (No such file): rule in chain A",
        ),
        (
            'iptables-restore v1.8.9 (legacy): unknown option "--foo"\nError occurred at line: 3\nTry `x -h\' or so.\n',
            'unknown option "--foo"; Error occurred at line: 3',
        ),
        ("# Warning: legacy tables present\n", "no reason given"),
    ],
)
def test_a_complaint_is_one_line_without_ceremony(said: str, text: str) -> None:
    assert complaint(said).removeprefix("; ") == text


@pytest.mark.parametrize("most", [0, 1, 3])
@pytest.mark.parametrize("kubelet", [False, True])
def test_everything_of_ours_goes_and_nothing_else(kubelet: bool, most: int) -> None:
    _, kernel = programmed(both("web", 1, 2), *STATES["affinity, local policy"])
    kernel.tables[4, n.NAT]["KUBE-OTHERS"] = ["-j RETURN"]
    kernel.tables[4, n.NAT]["PREROUTING"].append("-j KUBE-OTHERS")
    found = {table: listing(kernel.save(4, table)) for table in n.TABLES}
    for table, chains in chosen(found, kubelet=kubelet).items():
        assert chains
        text = removal(table, chains, jumps_to(chains, found[table]), most)
        assert kernel.restore(4, text) is None
        assert not chosen({table: listing(kernel.save(4, table))}, kubelet=kubelet)[table]
    left = {name for table in n.TABLES for name in kernel.tables[4, table] if name.startswith("KUBE-")}
    assert left == {"KUBE-OTHERS", *([n.KUBELET_FIREWALL] if kubelet else [])}
    assert kernel.tables[4, n.NAT]["PREROUTING"] == ["-j KUBE-OTHERS"]


def test_the_trial_leaves_nothing() -> None:
    kernel = MemoryIptables()
    before = {where: dict(chains) for where, chains in kernel.tables.items()}
    for family in (4, 6):
        rules = (*required(family), *(rule for option in optional(family).values() for rule in option.rules))
        assert kernel.restore(family, trial(rules)) is None
    assert kernel.tables == before


def test_a_flavour_that_this_kernel_has_not_is_the_last_choice() -> None:
    assert choose({Flavour.NFT: Traces(works=False), Flavour.LEGACY: Traces()}) is Flavour.LEGACY
    assert choose({Flavour.NFT: Traces(works=False)}) is Flavour.NFT
