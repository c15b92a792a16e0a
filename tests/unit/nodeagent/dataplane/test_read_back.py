"""Every mode is read back as it is wanted; what another program changed is a difference; nothing else is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest

from deltaplane.forwarding import ServiceForwarding
from nodeagent.dataplane.frontend_key import identity
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.objects import VirtualKey
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.read_back import Found, Readable
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.ipvs.memory import MemoryKernel as MemoryIpvs
from tests.fakes.nftables.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.iptables.tracing import SETTINGS as IPTABLES
from tests.unit.nodeagent.dataplane.ipvs import cases
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    NODE_ADDRESSES,
    STATES,
    cluster_ip,
    packed,
    service,
    targets,
)
from tests.unit.nodeagent.dataplane.userspace.support import LOCAL, Iptables, Nft

WEB = service("web", cluster_ip("172.30.0.1", targets(1, 2)))
OTHERS = [service(f"s{i}", cluster_ip(f"172.30.1.{i}", targets(1, 2, 3))) for i in range(1, 40)]


class Mode:
    """A dataplane on a kernel in memory. `names_asked`: how many things were listed one by one so far."""

    def __init__(self, name: str) -> None:
        self.kernel: Any = MemoryKernel()
        if name in ("iptables", "userspace-iptables"):
            self.kernel = MemoryIptables()
        if name == "ipvs":
            self.kernel = MemoryIpvs(addresses=[packed(text) for text in NODE_ADDRESSES])
        self.dataplane: Any = _MADE[name](self.kernel)
        self.dataplane.start()

    def has(self, *services: ServiceForwarding) -> None:
        assert self.dataplane.apply(services, NODE, complete=True).failed == ()

    def read(self, *services: ServiceForwarding) -> tuple[Found, Found, Found]:
        """Wanted, believed and there."""
        assert isinstance(self.dataplane, Readable)
        keys = [identity(entry) for each in services for entry in each.entries]
        asked = keys, list(services)
        return self.dataplane.wanted(*asked), self.dataplane.account(*asked), self.dataplane.look(*asked)


_MADE: dict[str, Callable[[Any], Any]] = {
    "nftables": NftablesDataplane,
    "iptables": lambda kernel: IptablesDataplane(kernel, IPTABLES),
    "ipvs": lambda kernel: IpvsDataplane(kernel, cases.SETTINGS),
    "userspace-nft": lambda kernel: UserspaceDataplane(LOCAL, Nft(LOCAL, kernel)),
    "userspace-iptables": lambda kernel: UserspaceDataplane(LOCAL, Iptables(LOCAL, kernel)),
}


@pytest.fixture(params=list(_MADE))
def mode(request: pytest.FixtureRequest) -> Iterator[Mode]:
    made = Mode(request.param)
    with closing(made.dataplane):
        yield made


def test_every_state_is_read_back_as_it_is_wanted(mode: Mode) -> None:
    for name, state in STATES.items():
        mode.has(*state)
        for one in state:
            wanted, account, kernel = mode.read(one)
            assert kernel.frontends == wanted.frontends == account.frontends, name
            assert wanted.members == kernel.members, name


def test_a_service_that_the_kernel_lacks_is_read_back_as_nothing(mode: Mode) -> None:
    mode.has(*OTHERS[:2])
    wanted, account, kernel = mode.read(WEB)
    assert (kernel.frontends, account.frontends) == ({}, {})
    if not isinstance(mode.dataplane, UserspaceDataplane):  # whose redirects lead to listeners, and it has none
        assert wanted.frontends


def test_reading_changes_nothing_and_lists_no_table_whole() -> None:
    iptables = Mode("iptables")
    iptables.has(WEB, *OTHERS)
    before, listings = {where: dict(held) for where, held in iptables.kernel.tables.items()}, iptables.kernel.listings
    iptables.read(WEB)
    assert iptables.kernel.listings == listings
    own = {chain for _, _, chain in iptables.kernel.asked if n.is_of_services(chain)}
    assert len(own) == 3  # the Service's chain and its two endpoints'
    assert {where: dict(held) for where, held in iptables.kernel.tables.items()} == before


def test_a_service_with_many_endpoints_has_its_table_listed_once() -> None:
    iptables = Mode("iptables")
    large = service("web", cluster_ip("172.30.0.1", targets(*range(1, 100))))
    iptables.has(large)
    listings = iptables.kernel.listings
    wanted, _, kernel = iptables.read(large)
    assert wanted == kernel
    assert iptables.kernel.listings == listings + 1


@pytest.mark.parametrize(
    ("table", "chain", "rule"),
    [
        (n.NAT, "KUBE-SVC", "-j DROP"),
        (n.NAT, n.SERVICES, "-s 203.0.113.9/32 -j RETURN"),
        (n.FILTER, n.EXTERNAL_SERVICES, "-j DROP"),
    ],
)
def test_a_rule_that_another_program_put_into_a_chain_in_question_is_a_difference(
    table: str, chain: str, rule: str
) -> None:
    iptables = Mode("iptables")
    iptables.has(WEB)
    chains = iptables.kernel.tables[4, table]
    chains[next(name for name in chains if name.startswith(chain))].insert(0, rule)
    wanted, account, kernel = iptables.read(WEB)
    assert wanted != kernel
    assert rule in str(kernel)
    assert account.frontends == wanted.frontends


def test_a_jump_that_another_program_took_away_is_a_difference() -> None:
    iptables = Mode("iptables")
    iptables.has(WEB)
    iptables.kernel.tables[4, n.NAT]["PREROUTING"].clear()
    wanted, _, kernel = iptables.read(WEB)
    (missing,) = wanted.members - kernel.members
    assert "in chain PREROUTING of IPv4's table nat" in missing


def test_an_endpoint_that_another_program_took_out_of_ipvs_is_a_difference() -> None:
    ipvs = Mode("ipvs")
    ipvs.has(WEB)
    key = VirtualKey(4, 6, packed("172.30.0.1"), 80)
    del ipvs.kernel.virtuals[key].reals[targets(1)[0]]
    wanted, account, kernel = ipvs.read(WEB)
    assert [each.targets for each in wanted.frontends.values()] == [targets(1, 2)]
    assert [each.targets for each in kernel.frontends.values()] == [targets(2)]
    assert account.frontends == wanted.frontends


def test_an_element_an_address_and_rules_that_are_gone_are_named_in_ipvs_mode() -> None:
    ipvs = Mode("ipvs")
    ipvs.has(WEB)
    ipvs.kernel.sets[4, names.CLUSTER_IP].clear()
    ipvs.kernel.addresses.clear()
    ipvs.kernel.rules[4].tables["nat"].clear()
    wanted, _, kernel = ipvs.read(WEB)
    assert wanted.members - kernel.members == {
        "172.30.0.1 TCP/80 in set KUBE-CLUSTER-IP",
        "address 172.30.0.1 on link kube-ipvs0",
        "rules of IPv4 as they are written",
    }


@pytest.mark.parametrize("way", ["userspace-nft", "userspace-iptables"])
def test_a_redirect_that_leads_to_nobody_is_a_difference(way: str) -> None:
    first, second = Mode(way), Mode(way)
    with closing(first.dataplane), closing(second.dataplane):
        first.has(WEB)
        second.has(WEB)
        first.kernel.tables = second.kernel.tables
        wanted, account, kernel = first.read(WEB)
    assert wanted.frontends == account.frontends
    assert "where nobody listens for a Service" in str(kernel.frontends)


def test_one_question_to_nftables_lists_no_other_services_elements() -> None:
    nftables = Mode("nftables")
    nftables.has(WEB, *OTHERS)
    few = _asked(nftables)
    nftables.has(WEB, *OTHERS, *(service(f"t{i}", cluster_ip(f"172.30.2.{i}", targets(1))) for i in range(1, 40)))
    assert _asked(nftables) == few


def _asked(mode: Mode) -> int:
    """How many requests one question takes."""
    before = mode.kernel.listings
    mode.read(WEB)
    return int(mode.kernel.listings - before)
