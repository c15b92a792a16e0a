"""The dataplane on the in-memory iptables: any state after any other, what it costs, and what is refused."""

from __future__ import annotations

import pytest

from deltaplane.forwarding import Frontend, FrontendKind, NodeForwarding, ServiceForwarding
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.rules import LAST
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.dataplane.outcome import Commit
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables.programs import Flavour
from tests.fakes.iptables.memory import MemoryIptables
from tests.unit.nodeagent.dataplane.iptables.tracing import SETTINGS, programmed, send, sorted_tables, started
from tests.unit.nodeagent.dataplane.nftables.tracing import POD, reaches
from tests.unit.nodeagent.dataplane.nftables.walks import (
    NODE,
    STATES,
    both,
    cluster_ip,
    external,
    key,
    node_port,
    packed,
    service,
    targets,
)

WEB, OTHER, THIRD = "172.30.0.1", "172.30.0.5", "172.30.0.6"


def web(*numbers: int, name: str = "web", address: str = WEB) -> ServiceForwarding:
    return service(name, cluster_ip(address, targets(*numbers)))


def many(count: int, each: int = 2) -> list[ServiceForwarding]:
    return [web(*range(1, each + 1), name=f"s{i}", address=f"172.30.{i // 250}.{i % 250 + 1}") for i in range(count)]


def inputs(kernel: MemoryIptables, family: int = 4) -> list[str]:
    """The lines of the last restore of a family."""
    return next(text for to, text in reversed(kernel.inputs) if to == family).splitlines()


# ---------------------------------------------------------------- any state after any other


@pytest.mark.parametrize("first", STATES)
def test_every_state_follows_every_other_and_is_adopted_as_it_is(first: str) -> None:
    for second, wanted in STATES.items():
        dataplane, kernel = programmed(*STATES[first])
        assert not dataplane.apply(wanted, complete=True).failed
        assert dataplane.apply(wanted, complete=True) == Commit()
        assert not dataplane.pending()
        fresh = programmed(*wanted)[1]
        assert sorted_tables(kernel) == sorted_tables(fresh), f"{first} -> {second}"
        again = started(kernel)
        assert again.adopted is any(one.entries for one in wanted)
        assert again.apply(wanted, NODE, complete=True) == Commit()


def test_the_jump_to_node_ports_stays_last() -> None:
    dataplane, kernel = programmed(web(1))
    dataplane.apply([web(1, name="other", address=OTHER)])
    dataplane.apply([], NodeForwarding((packed("192.168.1.2"),)))
    dataplane.apply([web(1, name="third", address=THIRD)])
    rules = kernel.tables[4, n.NAT][n.SERVICES]
    assert len(rules) == 4
    assert [LAST in rule for rule in rules] == [False, False, False, True]
    assert rules[-1].startswith("-d 192.168.1.2/32 ")


# ---------------------------------------------------------------- what a change costs


def test_a_new_service_adds_its_own_lines_only() -> None:
    dataplane, kernel = programmed(*many(20))
    dataplane.apply([web(7, name="other", address="172.30.9.9")])
    assert [line.partition("KUBE-SERVICES")[0] for line in inputs(kernel) if "KUBE-SERVICES" in line] == ["-I "]
    assert len(inputs(kernel)) == 2 + 2 + 2 + 2 + 1  # brackets, SVC and SEP declared, two rules each, the dispatch


def test_a_service_that_goes_takes_its_lines_and_chains_along() -> None:
    dataplane, kernel = programmed(*many(20))
    dataplane.apply([ServiceForwarding(key("s3"))])
    lines = inputs(kernel)
    assert [line[:16] for line in lines if line.startswith("-D")] == ["-D KUBE-SERVICES"]
    assert [line[:12] for line in lines if line.startswith("-X")] == ["-X KUBE-SVC-", "-X KUBE-SEP-", "-X KUBE-SEP-"]


def test_one_endpoint_changed_costs_the_same_among_any_number_of_services() -> None:
    costs = []
    for count in (100, 400, 5000):
        dataplane, kernel = programmed(*many(count, 3))
        listings = kernel.listings
        done = dataplane.apply([web(2, 3, 4, name="s5", address="172.30.0.6")])
        assert kernel.listings == listings
        costs.append((done.messages, done.elements, done.size))
    few, more, many_more = costs
    assert few == (1, 3 + 4 + 2 + 1, few[2])  # one restore: three chains declared, SVC, SEP, a chain deleted
    assert (more[:2], many_more[:2]) == (few[:2], few[:2])
    assert many_more[2] == more[2] < few[2]  # above 1,000 endpoints the same lines are without comments


def test_an_endpoint_changed_among_many_leaves_the_others_chains() -> None:
    dataplane, kernel = programmed(web(*range(1, 51)))
    dataplane.apply([web(*range(1, 52))])
    assert sum(line.startswith(":KUBE-SEP-") for line in inputs(kernel)) == 1


def test_nothing_is_listed_once_it_runs() -> None:
    dataplane, kernel = programmed(*many(5))
    before = kernel.listings
    for wanted in (many(5)[:1], [web(9, name="s0")], [ServiceForwarding(key("s1"))]):
        dataplane.apply(wanted)
    assert kernel.listings == before


def test_refusals_come_before_the_translation_goes_and_go_after_it_came() -> None:
    dataplane, kernel = programmed(web(1))
    dataplane.apply([web()])
    assert [line for line in inputs(kernel) if line[0] == "*"] == ["*filter", "*nat"]
    dataplane.apply([web(1)])
    assert [line for line in inputs(kernel) if line[0] == "*"] == ["*nat", "*filter"]
    dataplane.apply([service("web", external(Frontend(FrontendKind.EXTERNAL_IP, 4, packed(WEB), 6, 80), ()))])
    assert not send(kernel, source=POD, to=WEB, port=80).ends


def test_many_endpoints_lose_their_comments_and_those_that_have_some_keep_them() -> None:
    dataplane, kernel = programmed(*many(100, 10))
    dataplane.apply([web(*range(1, 11), name="late", address="172.31.0.1")])
    assert not any("->" in line for line in inputs(kernel))
    changed = many(100, 10)[3]
    dataplane.apply([service("s3", cluster_ip("172.30.0.4", targets(*range(1, 12))))])
    assert any("->" in line for line in inputs(kernel))
    again = started(kernel)
    everything = [*many(100, 10), web(*range(1, 11), name="late", address="172.31.0.1")]
    everything[3] = service("s3", cluster_ip("172.30.0.4", targets(*range(1, 12))))
    assert changed.key == everything[3].key
    assert again.apply(everything, NODE, complete=True) == Commit()


# ---------------------------------------------------------------- adoption


def test_nothing_adopted_goes_before_the_first_complete_apply() -> None:
    _, kernel = programmed(*many(10))
    again = started(kernel)
    assert again.adopted
    again.apply([web(1, 2, name="s3", address="172.30.0.4")], NODE)
    assert kernel.inputs[2:] == []
    done = again.apply([web(1, 2, name="s3", address="172.30.0.4")], complete=True)
    assert done.messages == 1
    assert len([name for name in kernel.tables[4, n.NAT] if n.is_of_services(name)]) == 3


def test_many_lines_of_nobody_are_gone_by_writing_their_chain_anew() -> None:
    _, kernel = programmed(*many(200))
    again = started(kernel)
    again.apply(many(100), NODE, complete=True)
    assert not any(line.startswith("-D") for line in inputs(kernel))
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(100))[1])
    assert LAST in kernel.tables[4, n.NAT][n.SERVICES][-1]


def test_a_line_that_stands_twice_is_put_right() -> None:
    _, kernel = programmed(*many(3))
    kernel.tables[4, n.NAT][n.SERVICES].insert(0, kernel.tables[4, n.NAT][n.SERVICES][0])
    started(kernel).apply(many(3), NODE, complete=True)
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(3))[1])


def test_rules_of_others_stay() -> None:
    _, kernel = programmed(web(1))
    kernel.tables[4, n.NAT]["CNI-HOSTPORT"] = ["-j RETURN"]
    kernel.tables[4, n.NAT]["PREROUTING"].insert(0, "-j CNI-HOSTPORT")
    kernel.tables[4, n.FILTER][n.KUBELET_FIREWALL].append("-m mark --mark 0x8000/0x8000 -j DROP")
    again = started(kernel)
    assert again.apply([web(1)], NODE, complete=True) == Commit()
    again.apply([], complete=True)
    assert kernel.tables[4, n.NAT]["PREROUTING"][0] == "-j CNI-HOSTPORT"
    assert len(kernel.tables[4, n.FILTER][n.KUBELET_FIREWALL]) == 1


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("bad", ["172.30.0.4/32", "KUBE-SEP-AKL5UZSPKCDVBTTD"])
def test_one_bad_service_does_not_hold_the_others_back(silent: bool, bad: str) -> None:
    kernel = MemoryIptables()
    kernel.poison, kernel.silent = {bad}, silent
    dataplane = started(kernel)
    everything = [*many(9), web(1, name="other", address="172.31.0.1")]
    done = dataplane.apply(everything, NODE, complete=True)
    guilty = "s3" if bad.startswith("172") else "other"
    assert [(failed.key, failed.code) for failed in done.failed] == [(key(guilty), "KERNEL_REJECTED")]
    assert "Invalid argument" in done.failed[0].text
    assert dataplane.pending()
    good = [one for one in everything if one.key != key(guilty)]
    wanted = sorted_tables(programmed(*good)[1])
    assert sorted_tables(kernel) == wanted
    kernel.poison = set()
    assert not dataplane.apply([]).failed
    assert sorted_tables(kernel) == sorted_tables(programmed(*everything)[1])
    assert not dataplane.pending()


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("flavour", list(Flavour))
def test_however_many_are_refused_the_others_are_in(silent: bool, flavour: Flavour) -> None:
    kernel = MemoryIptables([4], flavour)
    everything = many(150)
    kernel.poison, kernel.silent = {f'"default/s{i}:p cluster IP"' for i in range(0, 150, 2)}, silent
    done = started(kernel).apply(everything, NODE, complete=True)
    assert {failed.key for failed in done.failed} == {one.key for one in everything[::2]}
    fresh = MemoryIptables([4])
    started(fresh).apply([*everything[1::2]], NODE, complete=True)
    assert set(kernel.tables[4, n.NAT][n.SERVICES]) == set(fresh.tables[4, n.NAT][n.SERVICES])


def test_a_stale_chain_that_others_use_stays_alone() -> None:
    _, kernel = programmed(*many(5))
    stale = next(name for name in kernel.tables[4, n.NAT] if name.startswith(n.SEP))
    kernel.tables[4, n.NAT]["MINE"] = [f"-j {stale}"]
    again = started(kernel)
    assert not again.apply([web(2, name="other", address="172.31.0.1")], NODE, complete=True).failed
    assert send(kernel, source=POD, to="172.31.0.1", port=80) == reaches(2, masqueraded=False)
    assert not again.pending()
    left = {name for name in kernel.tables[4, n.NAT] if n.is_of_services(name)}
    wanted = programmed(web(2, name="other", address="172.31.0.1"))[1].tables[4, n.NAT]
    assert left - set(wanted) == {stale}


def test_what_is_refused_again_costs_no_listing() -> None:
    dataplane, kernel = programmed(*many(9))
    kernel.poison = {"172.31.0.1/32"}
    dataplane.apply([web(1, name="bad", address="172.31.0.1")])
    before = kernel.listings
    assert dataplane.apply([web(1, name="good", address="172.31.0.2")]).failed[0].key == key("bad")
    assert kernel.listings == before
    assert send(kernel, source=POD, to="172.31.0.2", port=80) == reaches(1, masqueraded=False)
    assert not dataplane.apply([ServiceForwarding(key("bad"))]).failed
    assert not dataplane.pending()


def test_what_cannot_be_said_is_an_invalid_object_and_its_last_form_stays() -> None:
    dataplane, kernel = programmed(web(1))
    done = dataplane.apply([service("web", node_port(0, targets(2))), web(3, name="other", address=OTHER)])
    assert [(failed.key, failed.code) for failed in done.failed] == [(key("web"), "INVALID_OBJECT")]
    assert send(kernel, source=POD, to=WEB, port=80) == reaches(1, masqueraded=False)
    assert send(kernel, source=POD, to=OTHER, port=80) == reaches(3, masqueraded=False)
    assert not dataplane.apply([web(2)]).failed


def test_a_kernel_that_refuses_everything_is_tried_again() -> None:
    dataplane, kernel = programmed(web(1))
    kernel.refusing = "Another app is currently holding the xtables lock"
    with pytest.raises(KernelUnavailable, match="xtables lock"):
        dataplane.apply([web(2)])
    with pytest.raises(KernelUnavailable):
        dataplane.apply([web(2)], complete=True)
    assert dataplane.pending()
    kernel.refusing = ""
    dataplane.apply([])
    assert send(kernel, source=POD, to=WEB, port=80) == reaches(2, masqueraded=False)
    assert not dataplane.pending()


def test_a_kernel_that_refuses_the_base_is_unavailable() -> None:
    kernel = MemoryIptables()
    dataplane = started(kernel)
    kernel.poison = {"MASQUERADE"}
    with pytest.raises(KernelUnavailable, match="Invalid argument"):
        dataplane.apply([web(1)], NODE, complete=True)
    kernel.poison = set()
    dataplane.apply([])
    assert sorted_tables(kernel) == sorted_tables(programmed(web(1))[1])


@pytest.mark.parametrize("damage", ["all", "chain", "line"])
def test_what_others_took_away_is_noticed_by_the_next_change_that_meets_it(damage: str) -> None:
    dataplane, kernel = programmed(*many(3))
    nat = kernel.tables[4, n.NAT]
    if damage == "all":
        kernel.tables[4, n.NAT] = {name: [] for name in ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING")}
    elif damage == "chain":
        nat[n.SERVICES] = [rule for rule in nat[n.SERVICES] if "s1:p" not in rule]
        for name in [name for name, rules in nat.items() if any("s1:p" in rule for rule in rules)]:
            del nat[name]
    else:
        nat[n.SERVICES] = [rule for rule in nat[n.SERVICES] if "s1:p" not in rule]
    wanted = [many(3)[0], many(3)[2]]
    assert not dataplane.apply([ServiceForwarding(key("s1")), web(1, name="new", address="172.31.0.1")]).failed
    dataplane.repair()
    fresh = programmed(*wanted, web(1, name="new", address="172.31.0.1"))[1]
    assert sorted_tables(kernel) == sorted_tables(fresh)


def test_repair_writes_what_differs_and_nothing_else() -> None:
    dataplane, kernel = programmed(*many(3))
    assert dataplane.repair() == Commit()
    kernel.tables[4, n.NAT][n.MARK_MASQ] = []
    kernel.tables[4, n.NAT]["PREROUTING"] = []
    kernel.tables[6, n.MANGLE].pop(n.CANARY)
    assert dataplane.repair().elements == 4
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(3))[1])


# ---------------------------------------------------------------- owners, settings, families


def test_a_node_port_goes_from_one_service_to_another_in_any_order() -> None:
    """Whose it is, is decided before; here the last word counts, whichever of the two Services comes first."""
    first, second = service("a", node_port(30080, targets(1))), service("b", node_port(30080, targets(2)))
    dataplane, kernel = programmed(first)
    assert dataplane.apply([second, service("a")]).failed == ()
    assert not dataplane.pending()
    assert send(kernel, source=POD, to="192.168.0.2", port=30080) == reaches(2, masqueraded=True)
    assert sorted_tables(kernel) == sorted_tables(programmed(second)[1])
    assert dataplane.apply([service("b"), first]).failed == ()
    assert send(kernel, source=POD, to="192.168.0.2", port=30080) == reaches(1, masqueraded=True)
    assert sorted_tables(kernel) == sorted_tables(programmed(first)[1])


def test_other_settings_change_what_depends_on_them() -> None:
    dataplane, kernel = programmed(*many(3))
    other = Settings(("10.9.0.0/16",), masquerade_bit=3)
    dataplane.configure(other)
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(3), settings=other)[1])
    with pytest.raises(ValueError, match="nonsense"):
        dataplane.configure(Settings(("nonsense",)))
    assert dataplane.repair() == Commit()


@pytest.mark.parametrize("cidr", ["10.180.300.0/24", "fd00:10:180::/x"])
def test_a_pod_cidr_that_is_none_is_the_nodes_failure_and_the_last_node_stays(cidr: str) -> None:
    dataplane, kernel = programmed(*many(3))
    (failed,) = dataplane.apply([], NodeForwarding((packed("192.168.1.2"),), pod_cidrs=(cidr,))).failed
    assert (failed.key.name, failed.code, cidr in failed.text) == ("", "INVALID_OBJECT", True)
    assert dataplane.pending()
    assert sorted_tables(kernel) == sorted_tables(programmed(*many(3))[1])
    assert dataplane.apply([], NODE) == Commit()
    assert not dataplane.pending()


def test_a_cidr_that_is_none_is_said_at_the_start() -> None:
    with pytest.raises(DataplaneUnavailable, match="correct --cluster-cidr"):
        started(MemoryIptables(), Settings(("nonsense",)))


def test_without_ipv6_ipv4_goes_on_and_without_ipv4_nothing() -> None:
    kernel = MemoryIptables([4])
    (failed,) = started(kernel).apply([both("web", 1)], NODE, complete=True).failed
    assert (failed.code, "IPv6" in failed.text) == ("UNSUPPORTED", True)
    assert {family for family, _ in kernel.inputs} == {4}
    with pytest.raises(DataplaneUnavailable, match="not installed"):
        started(MemoryIptables([6]))


def test_loopback_is_routed_only_where_node_ports_answer_there_and_after_the_guard() -> None:
    everywhere = NodeForwarding((), (4, 6))
    name = "net/ipv4/conf/all/route_localnet"
    dataplane, kernel = programmed(web(1))
    assert kernel.settings[name] == 0
    dataplane.apply([], everywhere)
    assert kernel.settings[name] == 1
    assert "! --ctstate RELATED,ESTABLISHED,DNAT -j DROP" in kernel.tables[4, n.FILTER][n.KUBELET_FIREWALL][0]
    kernel = MemoryIptables()
    del kernel.settings[name]
    dataplane = started(kernel)
    dataplane.apply([web(1)], everywhere, complete=True)
    assert kernel.tables[4, n.NAT][n.SERVICES][-1].startswith("! -d 127.0.0.0/8 ")
    assert not dataplane.pending()


def test_where_the_kernel_has_counters_loopback_and_invalid_packets_are_counted() -> None:
    everywhere, web_port = NodeForwarding((), (4, 6)), service("web", node_port(30080, targets(1)))
    kernel = MemoryIptables()
    kernel.counting = True
    dataplane = started(kernel)
    dataplane.apply([web_port], NODE, complete=True)
    assert kernel.tables[4, n.FILTER][n.FORWARD][0] == (
        "-m conntrack --ctstate INVALID -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts -j DROP"
    )
    assert len(kernel.tables[4, n.NAT][n.NODE_PORTS]) == 1
    dataplane.apply([], everywhere)
    first, second = kernel.tables[4, n.NAT][n.NODE_PORTS]
    assert first == second.replace("-p tcp", "-d 127.0.0.0/8 -p tcp").replace(
        "-j", "-m nfacct --nfacct-name  localhost_nps_accepted_pkts -j"
    )
    assert started(kernel).apply([web_port], everywhere, complete=True) == Commit()


def test_a_liberal_connection_tracker_drops_no_invalid_packet() -> None:
    kernel = MemoryIptables()
    kernel.settings["net/netfilter/nf_conntrack_tcp_be_liberal"] = 1
    started(kernel).apply([], NODE, complete=True)
    assert not any("INVALID" in rule for rule in kernel.tables[4, n.FILTER][n.FORWARD])


def test_the_first_in_importance_is_looked_at_first() -> None:
    _, kernel = programmed(*many(3))
    rules = kernel.tables[4, n.NAT][n.SERVICES][:3]
    assert ["s0:p" in rules[0], "s1:p" in rules[1], "s2:p" in rules[2]] == [True] * 3


def test_it_is_a_dataplane() -> None:
    dataplane = IptablesDataplane(MemoryIptables(), SETTINGS)
    assert (dataplane.mode, dataplane.fileno(), dataplane.drifted()) == ("iptables", -1, False)
