"""Whatever stands in a text field of an object, userspace mode makes only its own redirects of it."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import given, settings
from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.linux.netlink import wire
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.fields import Path
from tests.unit.nodeagent.dataplane.test_no_rule_through_a_name import CIDRS, GOOD, NODE, OTHER, both, every, texts
from tests.unit.nodeagent.dataplane.userspace.support import LOCAL, Iptables, Nft, running

SETTINGS = replace(LOCAL, cluster_cidrs=CIDRS)

_OURS, _HOOK = r"DELTAPLANE-US(?:-[A-Z]+)*", r"(?:INPUT|OUTPUT|FORWARD|PREROUTING)"
_MATCHES = (
    r"(?:! )?-[sd] [0-9a-f.:]+/\d+ |-p (?:tcp|udp) -m (?:tcp|udp) --dport \d+ |-m addrtype --src-type LOCAL |"
    r"-m conntrack (?:! )?--ctstate [A-Z]+ |-m mark ! --mark 0x4000/0x4000 "
)
_TARGET = rf"-[jg] (?:{_OURS}|RETURN|ACCEPT|DROP|REJECT|DNAT --to-destination (?:127\.0\.0\.1|\[::1\]):\d+)"
LINE = re.compile(
    rf"\*(?:nat|filter)|COMMIT|:{_OURS} - \[0:0\]|"
    rf"-A {_OURS} (?:{_MATCHES})*{_TARGET}|-I {_HOOK} (?:{_MATCHES})*-j {_OURS}"
)


def restored(service: ServiceForwarding, node: NodeForwarding) -> list[str]:
    """What iptables-restore is given; the other Service of the same batch is served."""
    tools = MemoryIptables()
    with running(Iptables(SETTINGS, tools), SETTINGS) as made:
        made.apply([service, OTHER], node, complete=True)
    assert any("172.30.0.9/32" in rule for rule in tools.tables[4, "nat"]["DELTAPLANE-US-IPS"])
    return [line for _, text in tools.inputs for line in text.removesuffix("\n").split("\n")]


def test_the_grammar_knows_every_line_of_an_innocent_service() -> None:
    assert [line for line in restored(GOOD, NODE) if LINE.fullmatch(line) is None] == []


@every
@given(text=texts)
@settings(max_examples=10, deadline=None)
def test_iptables_restore_gets_only_lines_of_our_own_chains(value: Any, path: Path, text: str) -> None:
    assert [line for line in restored(*both(value, path, text)) if LINE.fullmatch(line) is None] == []


@every
@given(text=texts)
@settings(max_examples=10, deadline=None)
def test_nft_gets_whole_messages_for_our_table_alone(value: Any, path: Path, text: str) -> None:
    kernel = MemoryKernel()
    service, node = both(value, path, text)
    with running(Nft(SETTINGS, kernel), SETTINGS) as made:
        made.apply([service, OTHER], node, complete=True)
    assert {name for _, name in kernel.tables} == {SETTINGS.table}
    for batch in kernel.batches:
        found = list(wire.messages(batch))
        assert found[-1].type == wire.BATCH_END
        assert sum(wire.PREFIX + len(each.body) for each in found) == len(batch)
