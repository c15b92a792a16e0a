"""Whatever stands in a text field of an object, past every check at the entry, no backend makes a rule of it.

The fields are those that the forwarding types declare: a new one without a sample fails here.
"""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from deltaplane.forwarding import Frontend, FrontendKind, Hairpin, HealthCheck, NodeForwarding, ServiceForwarding
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.settings import Settings as IptablesSettings
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.settings import Settings as IpvsSettings
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.linux.netlink import wire
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.ipvs.memory import MemoryKernel as MemoryIpvs
from tests.fakes.nftables.memory import MemoryKernel as MemoryNftables
from tests.unit.nodeagent.dataplane.fields import Path, declared, filled, hostile, leaves
from tests.unit.nodeagent.dataplane.nftables.walks import (
    POD_CIDRS,
    SETTINGS,
    cluster_ip,
    external,
    key,
    local_policy,
    node_port,
    packed,
    targets,
)

CIDRS = SETTINGS.cluster_cidrs
EXTERNAL = Frontend(FrontendKind.EXTERNAL_IP, 4, packed("198.51.100.8"), 6, 80)
EXTERNAL_6 = Frontend(FrontendKind.EXTERNAL_IP, 6, packed("2001:db8::8"), 6, 80)
VIP = Frontend(FrontendKind.LOAD_BALANCER, 4, packed("198.51.100.7"), 6, 80)
GOOD = ServiceForwarding(
    key("web"),
    (
        cluster_ip("172.30.0.1", targets(1, 2)),
        node_port(30080, targets(1, 2)),
        replace(external(VIP, targets(1, 2)), source_ranges=("10.0.0.0/8", "192.0.2.0/24")),
        local_policy(EXTERNAL, targets(1, 2), targets(1)),
        local_policy(EXTERNAL_6, targets(1, 2, family=6), targets(1, family=6)),
        replace(cluster_ip("172.30.0.1", targets(1), 53, 17), serving=targets(1, 2)),
    ),
    (Hairpin(packed("10.180.1.1"), 6, 8080),),
    health_check=HealthCheck(30090, ((4, 1),)),
)
OTHER = ServiceForwarding(key("other"), (cluster_ip("172.30.0.9", targets(3)),))
NODE = NodeForwarding((packed("192.168.0.2"),), (), ("172.30.0.0/16",), ("172.30.7.0/24",), POD_CIDRS)
TAILS = [
    *('"', "\\", "`", "$(id)", "\0", "\r", "#", " -j ACCEPT", '" -j ACCEPT', "-j ACCEPT", "x" * 5000),
    *(
        '"\nCOMMIT\n*filter\n-I INPUT -j ACCEPT\n',
        "\n-A INPUT -j ACCEPT",
        "\u2028",
        "\x85",
        "\x1b[2J",
        "\u202e",
        "\N{PILE OF POO}",
    ),
    *(
        "%x\n-A INPUT -j ACCEPT\n",
        "% -j ACCEPT",
        "fe80::%\n-A INPUT -j ACCEPT/64",
        "fe80::%x -j ACCEPT/64",
        "10.0.0.0/8\n-A INPUT -j ACCEPT",
        "\ud800",
    ),
]
texts = st.sampled_from(TAILS) | st.text(st.characters(codec=None), max_size=30)

_ADDRESS = r"[0-9a-f.:]+/\d+"
_COMMENT = r'-m comment --comment (?:[A-Za-z0-9_-]+|"[^"\\\n]{1,255}")(?: |\Z)'
_MATCHES = (
    r"(?:! )?-[sd] ADDR |-p (?:tcp|udp|sctp) |-m (?:tcp|udp|sctp) (?:--dport \d+ )?|"
    r"-m addrtype --(?:dst|src)-type LOCAL |"
    r"-m statistic --mode random --probability [\d.]+ |-m conntrack (?:! )?--ctstate [A-Z,]+ |"
    r"-m mark (?:! )?--mark 0x[0-9a-f]+/0x[0-9a-f]+ |"
).replace("ADDR", _ADDRESS) + _COMMENT
_TARGET = (
    r"-j (?:DNAT --to-destination [0-9a-f.:\[\]]+|MARK --set-xmark 0x[0-9a-f]+/0x[0-9a-f]+|MASQUERADE --random-fully|"
    r"REJECT --reject-with icmp6?-port-unreachable|DROP|RETURN|ACCEPT|KUBE-[A-Z0-9-]+)"
)
_OURS, _HOOK = r"KUBE-[A-Z0-9-]{3,24}", r"(?:INPUT|OUTPUT|FORWARD|PREROUTING|POSTROUTING)"
LINE = re.compile(
    rf"\*(?:nat|filter|mangle)|COMMIT|:{_OURS} - \[0:0\]|-X {_OURS}|"
    rf"-[AID] {_OURS} (?:{_MATCHES})*(?:{_TARGET})?|-I {_HOOK} (?:{_MATCHES})*-j {_OURS}"
)


def restored(service: ServiceForwarding, node: NodeForwarding) -> list[str]:
    """What iptables-restore is given, for the services and the node; others of the same batch are served."""
    kernel = MemoryIptables()
    dataplane = IptablesDataplane(kernel, IptablesSettings(CIDRS))
    dataplane.start()
    dataplane.apply([service, OTHER], node, complete=True)
    assert any("172.30.0.9/32" in rule for rule in kernel.tables[4, "nat"]["KUBE-SERVICES"])
    return [line for _, text in kernel.inputs for line in text.removesuffix("\n").split("\n")]


def ipvs(service: ServiceForwarding, node: NodeForwarding) -> set[str]:
    """The rules that ipvs mode has in iptables; others of the same batch are served."""
    kernel = MemoryIpvs(addresses=[packed("192.168.0.2")])
    dataplane = IpvsDataplane(kernel, IpvsSettings(CIDRS))
    dataplane.start()
    dataplane.apply([service, OTHER], node, complete=True)
    assert any(held.address == packed("172.30.0.9") for held in kernel.virtuals)
    return {f"{family} {line}" for family in (4, 6) for line in kernel.save(family).split("\n")}


INNOCENT = restored(GOOD, NODE)
PLACES = [*((GOOD, path) for path, _ in leaves(GOOD)), *((NODE, path) for path, _ in leaves(NODE))]
every = pytest.mark.parametrize(
    ("value", "path"), [pytest.param(value, path, id=".".join(map(str, path))) for value, path in PLACES]
)


def both(value: Any, path: Path, text: str) -> tuple[ServiceForwarding, NodeForwarding]:
    changed = hostile(value, path, text)
    return (changed, NODE) if value is GOOD else (GOOD, changed)


@pytest.mark.parametrize("value", [GOOD, NODE], ids=lambda value: type(value).__name__)
def test_every_text_that_the_types_declare_has_a_sample(value: Any) -> None:
    assert declared(type(value)) == set(filled(value))


def test_the_grammar_knows_every_line_of_an_innocent_service() -> None:
    assert [line for line in INNOCENT if LINE.fullmatch(line) is None] == []


@every
@given(text=texts)
@settings(max_examples=12, deadline=None)
def test_iptables_restore_gets_only_lines_of_the_grammar_of_our_own_chains(value: Any, path: Path, text: str) -> None:
    lines = restored(*both(value, path, text))
    assert [line for line in lines if LINE.fullmatch(line) is None] == []


@every
@given(text=texts)
@settings(max_examples=6, deadline=None)
def test_ipvs_gives_iptables_the_same_rules_whatever_an_object_says(value: Any, path: Path, text: str) -> None:
    given = ipvs(*both(value, path, text))
    assert given <= ipvs(GOOD, NODE) | ipvs(GOOD, replace(NODE, pod_cidrs=()))
    assert path[0] == "pod_cidrs" or given == ipvs(GOOD, NODE)


@every
@given(text=texts)
@settings(max_examples=6, deadline=None)
def test_nftables_sends_whole_messages_whatever_an_object_says(value: Any, path: Path, text: str) -> None:
    kernel = MemoryNftables()
    dataplane = NftablesDataplane(kernel, SETTINGS)
    dataplane.start()
    service, node = both(value, path, text)
    dataplane.apply([service, OTHER], node, complete=True)
    tables = {name for _, name in kernel.tables}
    assert tables == {"deltaplane"}
    for batch in kernel.batches:
        found = list(wire.messages(batch))
        assert found[-1].type == wire.BATCH_END
        assert sum(wire.PREFIX + len(each.body) for each in found) == len(batch)
