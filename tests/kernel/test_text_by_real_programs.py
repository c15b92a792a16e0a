"""Names that could be read as rules, and other programs' rules with awful comments, by the real programs."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaplane.forwarding import NodeForwarding
from nodeagent.dataplane.iptables.cleanup import cleanup
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.ipvs import rule_changes, rules
from nodeagent.dataplane.nftables.settings import Settings as NftablesSettings
from nodeagent.dataplane.userspace.cleanup import cleanup as userspace_cleanup
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.iptables import IptablesRedirects
from nodeagent.errors import KernelUnavailable
from nodeagent.linux.iptables.programs import Flavour
from nodeagent.linux.iptables.saved import Listing, listing
from nodeagent.linux.nft.kernel import NetlinkKernel
from nodeagent.linux.nft.tables import delete
from tests.fakes.iptables.memory import MemoryIptables
from tests.kernel import nftables_support
from tests.kernel.iptables_support import FLAVOURS, clean, dataplane
from tests.kernel.userspace_support import SETTINGS as USERSPACE
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, both, service
from tests.unit.nodeagent.dataplane.test_no_rule_through_a_name import CIDRS, OTHER, PLACES, texts
from tests.unit.nodeagent.dataplane.test_no_rule_through_a_name import both as with_text
from tools.lab import netns
from tools.lab.netns import Namespace
from tools.lab.rules import run, wipe

pytestmark = pytest.mark.kernel

WEB = both("web", 1, 2)
TABLES = ("nat", "filter")
COMMENTS = [
    *(b'"', b"\\", b'\\"', b'a"b', b"a\\b\\", b"'", b"`id`", b"$(id)", b" a ", b"#", b"x" * 255),
    *(
        b"-j KUBE-MARK-MASQ",
        b" -j KUBE-SERVICES ",
        b" -j DELTAPLANE-US-INSIDE ",
        b'" -j KUBE-SERVICES',
        b'\\" -g KUBE-POSTROUTING "',
    ),
    *(b"COMMIT", b"*nat", b":KUBE-SVC-AAAAAAAAAAAAAAAA - [0:0]", b"-A KUBE-SERVICES -j ACCEPT", b"DELTAPLANE"),
    *(text.encode() for text in ("\u2028", "a\x85b", "\u202e", "\N{PILE OF POO}", "\xa0")),
    *(b"\xff\xfe", b"\xc3", b'\xed\xa0\x80"'),  # no UTF-8
]
CONTROLS = [b"a\tb", b"a\rb", b"a\x0cb", b"a\x1b[2Jb"]
_OUR_JUMPS = re.compile(
    rb'(?m)^-A \S+ (?:-m conntrack --ctstate \S+ )?(?:-m comment --comment "[^"\n]*" )?'
    rb"-j (?:KUBE|DELTAPLANE)-\S+\n"
)
LINE_ENDS = [b"a\nb", b"a\n-A KUBE-SERVICES -j ACCEPT\nb", b'"\n-X KUBE-SERVICES\n"', b"\nCOMMIT\n"]


@pytest.fixture
def space() -> Iterator[Namespace]:
    made = netns.create("text")
    run(made, "ip", "link", "set", "lo", "up")
    yield made
    netns.delete(made)


def call(space: Namespace, *command: str | bytes, given: bytes = b"") -> bytes:
    """What a program prints, as it prints it."""
    with space.entered():
        done = subprocess.run(command, input=given, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def others(space: Namespace, flavour: Flavour) -> None:
    """Another program's chain with every comment, which it is led to in front and behind."""
    program = f"iptables-{flavour.value}"
    for table, hook in (("nat", "PREROUTING"), ("filter", "FORWARD")):
        call(space, program, "-t", table, "-N", "MINE")
        for comment in (*COMMENTS, *CONTROLS, *LINE_ENDS):
            call(space, program, "-t", table, "-A", "MINE", "-m", "comment", "--comment", comment, "-j", "RETURN")
            call(space, program, "-t", table, "-A", hook, "-m", "comment", "--comment", comment, "-j", "MINE")
        for prefix in ("-j KUBE-MARK-MASQ ", '" -j KUBE-SERVICES', " -j DELTAPLANE-US-INSIDE "):
            call(space, program, "-t", table, "-A", "MINE", "-j", "LOG", "--log-prefix", prefix)


def saved(space: Namespace, flavour: Flavour) -> dict[str, bytes]:
    """The tables as they are printed, without counters and times."""
    found = {}
    for table in TABLES:
        printed = call(space, f"iptables-{flavour.value}-save", "-t", table)
        found[table] = re.sub(rb"(?m)^# (?:Gen|Comp).*\n| \[\d+:\d+\]$", b"", printed)
    return found


def theirs(space: Namespace, flavour: Flavour) -> list[bytes]:
    """What stands in their chain, and what leads to it."""
    program = f"iptables-{flavour.value}"
    hooks = [
        call(space, program, "-t", table, "-S", hook) for table, hook in (("nat", "PREROUTING"), ("filter", "FORWARD"))
    ]
    led = [_OUR_JUMPS.sub(b"", text) for text in hooks]
    return [*led, *(call(space, program, "-t", table, "-S", "MINE") for table in TABLES)]


# ------------------------------------------------------------ hostile values


def restored(service: Any, node: NodeForwarding) -> MemoryIptables:
    kernel = MemoryIptables()
    made = IptablesDataplane(kernel, Settings(CIDRS))
    made.start()
    made.apply([service, OTHER], node, complete=True)
    return kernel


def chains(found: Listing) -> Listing:
    """Those that have rules, or that no kernel has of its own."""
    return {name: rules for name, rules in found.items() if rules or name.startswith("KUBE-")}


@FLAVOURS
@given(place=st.sampled_from(PLACES), text=texts)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_iptables_restore_makes_of_any_text_in_any_field_only_our_chains(
    space: Namespace, flavour: Flavour, place: tuple[Any, Any], text: str
) -> None:
    wipe(space)
    twin = restored(*with_text(*place, text))
    for family, lines in twin.inputs:
        program = f"ip{'6' if family == 6 else ''}tables-{flavour.value}-restore"
        run(space, program, "--test", "--noflush", stdin=lines)
        run(space, program, "--noflush", stdin=lines)
    for (family, table), expected in twin.tables.items():
        program = f"ip{'6' if family == 6 else ''}tables-{flavour.value}-save"
        assert chains(listing(run(space, program, "-t", table))) == chains(expected)


# ------------------------------------------------------------ others' rules


@FLAVOURS
def test_iptables_mode_leaves_others_rules_whole_at_start_repair_and_clean_up(
    space: Namespace, flavour: Flavour
) -> None:
    others(space, flavour)
    before, mine = saved(space, flavour), theirs(space, flavour)
    for _ in range(2):
        with dataplane(space, flavour) as made:
            assert not made.apply([WEB], NODE, complete=True).failed
            assert theirs(space, flavour) == mine
            run(space, f"iptables-{flavour.value}", "-t", "nat", "-F", "KUBE-SERVICES")
            run(space, f"iptables-{flavour.value}", "-t", "nat", "-D", "PREROUTING", "1")
            made.apply([WEB], complete=True)
            made.repair()
            assert theirs(space, flavour) == mine
            assert not made.apply([], complete=True).failed
            assert not made.apply([WEB], complete=True).failed
    clean(space)
    assert saved(space, flavour) == before


@FLAVOURS
def test_clean_up_deletes_rules_of_others_that_lead_to_our_chains_whatever_their_comments(
    space: Namespace, flavour: Flavour
) -> None:
    others(space, flavour)
    before = saved(space, flavour)
    with dataplane(space, flavour) as made:
        made.apply([WEB], NODE, complete=True)
    program = f"iptables-{flavour.value}"
    for comment in COMMENTS:
        call(space, program, "-t", "nat", "-A", "MINE", "-m", "comment", "--comment", comment, "-j", "KUBE-MARK-MASQ")
    clean(space)
    assert saved(space, flavour) == before


@FLAVOURS
@pytest.mark.parametrize("comment", [*CONTROLS, *LINE_ENDS], ids=ascii)
def test_clean_up_names_a_rule_that_cannot_be_given_back_and_takes_nothing_of_it_apart(
    space: Namespace, flavour: Flavour, comment: bytes
) -> None:
    with dataplane(space, flavour) as made:
        made.apply([WEB], NODE, complete=True)
    rule = ("MINE", "-m", "comment", "--comment", comment, "-j", "KUBE-MARK-MASQ")
    program = (f"iptables-{flavour.value}", "-t", "nat")
    call(space, *program, "-N", "MINE")
    call(space, *program, "-A", *rule)
    with pytest.raises(KernelUnavailable, match="control characters: delete it with iptables -D"):
        clean(space)
    call(space, *program, "-D", *rule)
    clean(space)
    assert b"KUBE-" not in b"".join(saved(space, flavour).values())


@FLAVOURS
def test_userspace_redirects_leave_others_rules_whole(space: Namespace, flavour: Flavour) -> None:
    others(space, flavour)
    before, mine = saved(space, flavour), theirs(space, flavour)
    for _ in range(2):
        with ExitStack() as stack:
            with space.entered():
                made = UserspaceDataplane(USERSPACE, IptablesRedirects(USERSPACE, flavour=flavour))
                stack.callback(made.close)
                made.start()
            assert not made.apply([WEB], NODE, complete=True).failed
            assert "172.30.0.1/32" in str(saved(space, flavour))
            assert theirs(space, flavour) == mine
    with space.entered():
        userspace_cleanup(USERSPACE)
    assert saved(space, flavour) == before


@FLAVOURS
def test_what_ipvs_mode_takes_away_leaves_others_rules_whole(space: Namespace, flavour: Flavour) -> None:
    """Its chains alone, which need no IPVS in the kernel, with rules of others that lead to them."""
    others(space, flavour)
    before, program = saved(space, flavour), f"iptables-{flavour.value}"
    for table, chains in rules.CHAINS.items():
        made = "".join(f":{chain} - [0:0]\n" for chain in chains)
        run(space, f"{program}-restore", "--noflush", stdin=f"*{table}\n{made}COMMIT\n")
    for comment in COMMENTS:
        call(space, program, "-t", "nat", "-A", "MINE", "-m", "comment", "--comment", comment, "-j", "KUBE-SERVICES")
    there = call(space, f"{program}-save").decode("utf-8", "surrogateescape")
    text, gone = rule_changes.removal(there, rule_changes.NOTHING)
    assert "nat KUBE-SERVICES" in gone
    call(space, f"{program}-restore", "--noflush", given=text.encode("utf-8", "surrogateescape"))
    assert saved(space, flavour) == before


# ------------------------------------------------------------ nftables


def test_nftables_has_only_our_tables_for_the_longest_names(space: Namespace) -> None:
    longest = service("x" * 63, *WEB.entries)
    chosen = NftablesSettings(interface="e" * 15)
    with nftables_support.dataplane(space, chosen) as (made, _):
        assert not made.apply([longest], NODE, complete=True).failed
        shown = run(space, "nft", "list", "ruleset")
        assert set(re.findall(r"(?m)^table (\S+ \S+)", shown)) == {"ip deltaplane", "ip6 deltaplane"}
        assert f'"{"e" * 15}"' in shown
    with space.entered(), closing(NetlinkKernel()) as kernel:
        delete(kernel, ("deltaplane",))
    assert run(space, "nft", "list", "ruleset") == ""


def test_iptables_mode_has_only_our_chains_for_the_longest_names(space: Namespace) -> None:
    longest = service("x" * 63, *WEB.entries)
    with dataplane(space, Flavour.NFT, Settings(interface="e" * 15 + "*")) as made:
        assert not made.apply([longest], NODE, complete=True).failed
        assert f"-i {'e' * 15} " in run(space, "iptables-nft-save", "-t", "nat")
    with space.entered():
        cleanup()
    assert run(space, "nft", "list", "ruleset") == ""
