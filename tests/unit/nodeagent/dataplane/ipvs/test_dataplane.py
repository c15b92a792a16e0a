"""The dataplane on the in-memory kernel: walks between states, what is written, what is reported, what is adopted."""

from __future__ import annotations

import errno

import pytest

from deltaplane.forwarding import (
    Entry,
    Frontend,
    FrontendKind,
    HealthCheck,
    Masquerade,
    NodeForwarding,
    ServiceForwarding,
    Target,
    Verdict,
)
from nodeagent.dataplane.ipvs import names
from nodeagent.dataplane.ipvs.kernel import Channel, Refusal
from nodeagent.dataplane.ipvs.objects import Held, Manner, VirtualKey
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import (
    EXTERNAL,
    NODE,
    NODE_ADDRESSES,
    SETTINGS,
    STATES,
    VIP,
    both,
    cluster_ip,
    expected,
    external,
    key,
    local_policy,
    node_port,
    packed,
    picture,
    service,
    started,
    sticky,
    targets,
)

WEB = VirtualKey(4, 6, packed("172.30.0.1"), 80)


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_from_every_state_to_every_state(kernel: MemoryKernel, before: str, after: str) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES[before], NODE, complete=True)
    commit = dataplane.apply(STATES[after], complete=True)
    assert commit.failed == ()
    assert picture(kernel) == expected(STATES[after])
    assert not dataplane.pending()
    assert dataplane.apply(STATES[after], NODE, complete=True).messages == 0


@pytest.mark.parametrize("before", STATES)
@pytest.mark.parametrize("after", STATES)
def test_a_restart_adopts_and_writes_only_what_differs(kernel: MemoryKernel, before: str, after: str) -> None:
    started(kernel).apply(STATES[before], NODE, complete=True)
    dataplane = started(kernel)
    commit = dataplane.apply(STATES[after], NODE, complete=True)
    assert picture(kernel) == expected(STATES[after])
    assert (commit.messages == 0) is (before == after)
    assert dataplane.adopted is bool(STATES[before])


def test_starting_changes_nothing(kernel: MemoryKernel) -> None:
    before = picture(kernel), kernel.save(4), kernel.save(6)
    started(kernel)
    assert {channel for channel, _ in kernel.sent} == {Channel.SETS}  # a set for trying the rules of IPv6, gone again
    assert kernel.sets == {}
    assert (picture(kernel), kernel.save(4), kernel.save(6)) == before
    assert kernel.links.keys() == {1, 2}


def test_nothing_adopted_is_removed_before_the_first_complete_apply(kernel: MemoryKernel) -> None:
    started(kernel).apply(STATES["two services"], NODE, complete=True)
    dataplane = started(kernel)
    new = service("new", cluster_ip("172.30.0.9", targets(1)))
    dataplane.apply([new], NODE)
    assert (4, packed("172.30.0.5")) in picture(kernel)[names.ADDRESS]
    dataplane.apply([new], complete=True)
    assert picture(kernel) == expected((new,))


@pytest.mark.parametrize("size", [100, 5000])
def test_one_endpoint_costs_the_same_in_a_large_cluster(kernel: MemoryKernel, size: int) -> None:
    services = [service(f"s{n}", cluster_ip(f"172.30.{n >> 8}.{n & 255}", targets(1, 2, 3))) for n in range(size)]
    dataplane = started(kernel)
    dataplane.apply(services, NODE, complete=True)
    listings, rules = kernel.listings, kernel.rules[4].saved()
    commit = dataplane.apply([service("s7", cluster_ip("172.30.0.7", targets(1, 2, 9)))])
    # add one, weight 0 for the other, ask who still has connections, delete it
    assert (commit.messages, commit.elements) == (4, 3)
    assert commit.size < 500
    assert kernel.listings == listings + 1
    assert kernel.rules[4].saved() == rules


def test_a_cold_start_sends_few_writes(kernel: MemoryKernel) -> None:
    services = [service(f"s{n}", cluster_ip(f"172.30.{n >> 8}.{n & 255}", targets(1, 2, 3))) for n in range(1000)]
    dataplane = started(kernel)
    commit = dataplane.apply(services, NODE, complete=True)
    of_sets = [data for channel, data in kernel.sent if channel is Channel.SETS]
    assert len(kernel.sent) < 60
    assert sum(map(len, of_sets)) < commit.size / 3


def test_an_endpoint_with_connections_leaves_when_they_end(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply([service("web", cluster_ip("172.30.0.1", targets(1, 2)))], NODE, complete=True)
    leaving = targets(2)[0]
    kernel.connections[WEB, leaving] = 3
    dataplane.apply([service("web", cluster_ip("172.30.0.1", targets(1)))])
    assert kernel.virtuals[WEB].reals == {targets(1)[0]: 1, leaving: 0}
    assert not dataplane.pending()
    dataplane.driver.drift._look()
    assert leaving in kernel.virtuals[WEB].reals
    kernel.connections.clear()
    dataplane.driver.drift._look()
    assert kernel.virtuals[WEB].reals == {targets(1)[0]: 1}


def test_an_endpoint_that_comes_back_while_it_drains_serves_again(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    two, one = (service("web", cluster_ip("172.30.0.1", targets(*n))) for n in ((1, 2), (1,)))
    dataplane.apply([two], NODE, complete=True)
    kernel.connections[WEB, targets(2)[0]] = 1
    dataplane.apply([one])
    again = started(kernel)  # a restart does not forget who drains
    again.apply([one], NODE, complete=True)
    assert kernel.virtuals[WEB].reals[targets(2)[0]] == 0
    again.apply([two])
    assert kernel.virtuals[WEB].reals == dict.fromkeys(targets(1, 2), 1)


def test_udp_endpoints_leave_at_once(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dns = VirtualKey(4, 17, packed("172.30.0.1"), 53)
    dataplane.apply([service("dns", cluster_ip("172.30.0.1", targets(1, 2), 53, 17))], NODE, complete=True)
    kernel.connections[dns, targets(2)[0]] = 5
    dataplane.apply([service("dns", cluster_ip("172.30.0.1", targets(1), 53, 17))])
    assert list(kernel.virtuals[dns].reals) == list(targets(1))


def test_virtual_servers_of_others_are_never_touched(kernel: MemoryKernel) -> None:
    theirs = [
        VirtualKey(4, 6, packed("192.0.2.1"), 80),
        VirtualKey(4, 6, packed(NODE_ADDRESSES[0]), 8443),
        VirtualKey(4, 0, b"", 7),
    ]
    for virtual in theirs:
        kernel.virtuals[virtual] = Held(Manner("lc", 0, 0), {Target(packed("192.0.2.9"), 80): 4})
    dataplane = started(kernel)
    assert not dataplane.adopted
    dataplane.apply([both("web", 1)], NODE, complete=True)
    dataplane.apply([], complete=True)
    dataplane.repair()
    assert list(kernel.virtuals) == theirs
    assert all(held.reals == {Target(packed("192.0.2.9"), 80): 4} for held in kernel.virtuals.values())


def test_node_ports_left_by_a_dead_agent_are_ours(kernel: MemoryKernel) -> None:
    started(kernel).apply([both("web", 1)], NODE, complete=True)
    dataplane = started(kernel)
    dataplane.apply([], NODE, complete=True)
    assert kernel.virtuals == {}


def test_excluded_networks_are_never_deleted(kernel: MemoryKernel) -> None:
    kept = Settings(cluster_cidrs=SETTINGS.cluster_cidrs, exclude_cidrs=("172.30.0.0/24",))
    dataplane = started(kernel, kept)
    dataplane.apply([service("web", cluster_ip("172.30.0.1", targets(1)))], NODE, complete=True)
    dataplane.apply([], complete=True)
    assert list(kernel.virtuals) == [WEB]
    assert dataplane.apply([], complete=True).messages == 0


def bad(name: str, address: bytes = b"\x01\x02\x03\x04\x05\x06\x07\x08") -> ServiceForwarding:
    frontend = Frontend(FrontendKind.EXTERNAL_IP, 4, address, 6, 80)
    return service(name, Entry(frontend, "p", targets(1), Verdict.FORWARD, Masquerade.ALWAYS))


def test_a_refused_object_is_reported_and_the_others_go_on(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    good = tuple(service(f"s{n}", cluster_ip(f"172.30.1.{n}", targets(1, 2))) for n in range(50))
    broken = service("broken", cluster_ip("172.30.2.1", (Target(packed("224.0.0.1"), 80),)))
    commit = dataplane.apply([*good[:25], bad("bad"), broken, *good[25:]], NODE, complete=True)
    found = {(failed.key, failed.code) for failed in commit.failed}
    assert found == {(key("bad"), "INVALID_OBJECT"), (key("broken"), "KERNEL_REJECTED")}
    assert "the kernel refused 172.30.2.1 TCP/80: Invalid argument" in commit.failed[1].text
    assert dataplane.pending()
    healed = dataplane.apply([service("bad"), service("broken")])
    assert healed.failed == ()
    assert not dataplane.pending()
    dataplane.repair()
    assert expected(good)["real"] <= picture(kernel)["real"]


def test_source_ranges_that_cannot_be_are_that_services_trouble_alone(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    odd = service("odd", external(VIP, targets(1), ("2001:db8::/32",)))
    commit = dataplane.apply([odd, both("web", 1)], NODE, complete=True)
    assert [(failed.key, failed.code) for failed in commit.failed] == [(key("odd"), "INVALID_OBJECT")]
    assert picture(kernel) == expected((both("web", 1),))


def test_a_scheduler_the_kernel_lacks_is_said(kernel: MemoryKernel) -> None:
    dataplane = started(kernel, Settings(scheduler="twos"))
    commit = dataplane.apply([service("web", cluster_ip("172.30.0.1", targets(1)))], NODE, complete=True)
    assert "the kernel has no scheduler twos: load ip_vs_twos" in commit.failed[0].text


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS])
def test_a_refusing_kernel_keeps_the_wish_pending(kernel: MemoryKernel, code: int) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    kernel.refusing = code
    with pytest.raises(KernelUnavailable):
        dataplane.apply(STATES["five endpoints"])
    assert dataplane.pending()
    kernel.refusing = 0
    dataplane.apply([])
    assert picture(kernel) == expected(STATES["five endpoints"])
    assert not dataplane.pending()


def test_a_node_port_goes_from_one_service_to_another_in_any_order(kernel: MemoryKernel) -> None:
    """Whose it is, is decided before; here the last word counts, whichever of the two Services comes first."""
    dataplane = started(kernel)
    first, second = service("a", node_port(30080, targets(1))), service("b", node_port(30080, targets(2)))
    dataplane.apply([first], NODE, complete=True)
    assert dataplane.apply([second, service("a")]).failed == ()
    assert picture(kernel) == expected((second,))
    dataplane.apply([service("b"), first])
    assert picture(kernel) == expected((first,))


def test_what_others_took_away_comes_back(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["two services"], NODE, complete=True)
    kernel.virtuals.clear()
    dataplane.apply([both("web", 1, 2)])
    left = (both("web", 1, 2), STATES["two services"][1])
    assert picture(kernel) == expected(left)


@pytest.mark.parametrize("damage", ["servers", "reals", "set", "address", "link", "rules", "manner"])
def test_a_look_finds_what_others_did_and_repair_puts_it_right(kernel: MemoryKernel, damage: str) -> None:
    dataplane = started(kernel)
    dataplane.apply(STATES["two services"], NODE, complete=True)
    rules = kernel.rules[4].saved()
    for _ in range(12):
        dataplane.driver.drift._look()
        assert not dataplane.driver.drift._seen
    spoil(kernel, damage)
    dataplane.driver.drift._rules_at = 0.0
    for _ in range(12):  # sets are looked at in turn
        dataplane.driver.drift._look()
        if dataplane.driver.drift._seen:
            break
    assert damage in ("address", "link") or dataplane.driver.drift._seen
    dataplane.repair()
    assert picture(kernel) == expected(STATES["two services"])
    assert kernel.rules[4].saved() == rules
    assert not dataplane.driver.drift._seen


def spoil(kernel: MemoryKernel, damage: str) -> None:
    """What others may do."""
    link = max(kernel.links)
    if damage == "servers":
        kernel.virtuals.clear()
    elif damage == "reals":
        kernel.virtuals[WEB].reals.clear()
    elif damage == "manner":
        kernel.virtuals[WEB].manner = Manner("lc", 0, 0)
    elif damage == "set":
        kernel.sets[4, names.CLUSTER_IP].clear()
    elif damage == "rules":
        kernel.rules[4].tables["nat"]["KUBE-SERVICES"].pop()
    else:
        kernel.addresses = {where: None for where in kernel.addresses if where[0] != link}
        if damage == "link":
            del kernel.links[link]


def test_an_address_of_another_link_is_not_bound_and_node_ports_follow_the_addresses(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    own = packed(NODE_ADDRESSES[0])
    frontend = Frontend(FrontendKind.EXTERNAL_IP, 4, own, 6, 80)
    everywhere = NodeForwarding(match_all_families=(4,))
    dataplane.apply(
        [service("web", external(frontend, targets(1)), node_port(30080, targets(1)))], everywhere, complete=True
    )
    assert names.ADDRESS not in picture(kernel)
    assert {virtual.port for virtual in kernel.virtuals} == {80, 30080}
    more = packed("192.168.0.77")
    dataplane.driver.desired.put_addresses({own, more})
    assert dataplane.pending()
    dataplane.apply([])
    assert {virtual.address for virtual in kernel.virtuals if virtual.port == 30080} == {own, more}


def test_outside_sources_have_a_mark_of_their_own_that_a_restart_keeps(kernel: MemoryKernel) -> None:
    web = service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(1)))
    started(kernel).apply([web], NODE, complete=True)
    marks = dict(kernel.sets[4, names.OUTSIDE_MARK])
    dataplane = started(kernel)
    assert dataplane.apply([web], NODE, complete=True).messages == 0
    dataplane.apply([service("web", local_policy(EXTERNAL, targets(1, 2, 3), targets(1, 2)))])
    assert kernel.sets[4, names.OUTSIDE_MARK] == marks
    dataplane.apply([], complete=True)
    assert kernel.virtuals == {}
    assert not any(kernel.sets.values())


def test_settings_change_manner_and_rules(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    dataplane.apply([service("web", sticky(cluster_ip("172.30.0.1", targets(1))))], NODE, complete=True)
    dataplane.configure(Settings(cluster_cidrs=("10.0.0.0/8",), scheduler="mh", tcp_timeout=60))
    assert kernel.virtuals[WEB].manner == ("mh", 0x11, 10800)
    assert "! -s 10.0.0.0/8" in kernel.rules[4].saved()
    assert "10.180.0.0/16" not in kernel.rules[4].saved()
    with pytest.raises(ValueError, match=r"10\.0\.0\.0/99"):
        dataplane.configure(Settings(cluster_cidrs=("10.0.0.0/99",)))


def test_a_health_check_node_port_is_let_in(kernel: MemoryKernel) -> None:
    dataplane = started(kernel)
    web = ServiceForwarding(key("web"), health_check=HealthCheck(32000, ((4, 1),)))
    dataplane.apply([web], NODE, complete=True)
    assert picture(kernel)[names.HEALTH_CHECK] == {(family, (32000).to_bytes(2, "big")) for family in (4, 6)}
    dataplane.apply([service("web")])
    assert picture(kernel) == {}


def test_a_family_the_kernel_lacks_is_left_out() -> None:
    kernel = MemoryKernel(families=(4,), addresses=[packed(NODE_ADDRESSES[0])])
    dataplane = started(kernel)
    dataplane.apply(STATES["five endpoints"], NODE, complete=True)
    assert {virtual.family for virtual in kernel.virtuals} == {4}
    assert {family for family, _ in kernel.sets} == {4}


def test_a_cidr_that_is_none_is_said_at_the_start(kernel: MemoryKernel) -> None:
    with pytest.raises(DataplaneUnavailable, match=r"CIDR.*10.0.0.0/99.*correct"):
        started(kernel, Settings(cluster_cidrs=("10.0.0.0/99",)))


def test_rules_come_first_on_a_fresh_node_and_last_where_another_mode_serves(kernel: MemoryKernel) -> None:
    log: list[str] = []

    class Told(MemoryKernel):
        def restore(self, family: int, text: str) -> None:
            log.append("rules")
            super().restore(family, text)

        def send(self, channel: Channel, data: bytes, last: int) -> list[Refusal]:
            log.append(channel.name)
            return super().send(channel, data, last)

    fresh = started(Told())
    log.clear()
    fresh.apply(STATES["one endpoint"], NODE, complete=True)
    assert log.index("rules") < log.index("IPVS")
    log.clear()
    taken = Told()
    for family in (4, 6):
        taken.rules[family].restore("*nat\n:KUBE-SVC-X - [0:0]\n-A KUBE-SVC-X -j RETURN\nCOMMIT\n")
    dataplane = started(taken)
    log.clear()
    dataplane.apply(STATES["one endpoint"], NODE)
    assert "rules" not in log
    dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    assert log[-2:] == ["rules", "rules"]
    assert dataplane.apply(STATES["one endpoint"], complete=True).messages == 0
    assert log.count("rules") == 2


def test_an_address_of_another_node_never_goes_onto_the_link(kernel: MemoryKernel) -> None:
    """Whichever comes first, the Node or the Service; and it goes there once no other Node has it."""
    address = EXTERNAL.address
    web = service("web", external(EXTERNAL, targets(1)))
    dataplane = started(kernel)
    dataplane.apply([web], NODE, complete=True)
    assert (4, address) in picture(kernel)[names.ADDRESS]
    dataplane.neighbours([address], ())
    assert dataplane.apply([]).failed == ()
    found = picture(kernel)
    assert VirtualKey(4, 6, address, 80) in {virtual for virtual, _ in found["virtual"]}
    assert names.ADDRESS not in found
    assert names.IPVS_IPS not in found
    assert dataplane.apply([web]).messages == 0
    dataplane.neighbours((), [address])
    dataplane.apply([])
    assert (4, address) in picture(kernel)[names.ADDRESS]
