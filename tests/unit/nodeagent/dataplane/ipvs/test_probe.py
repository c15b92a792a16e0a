"""Probing leaves nothing behind and says why not; cleaning takes what is ours and nothing else."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterable, Iterator
from ipaddress import ip_network

import pytest

from deltaplane.forwarding import Target
from nodeagent.dataplane.ipvs import names, rules
from nodeagent.dataplane.ipvs.cleanup import cleanup
from nodeagent.dataplane.ipvs.kernel import Channel
from nodeagent.dataplane.ipvs.objects import Held, Manner, VirtualKey
from nodeagent.dataplane.ipvs.probe import kinds, probe
from nodeagent.dataplane.ipvs.rule_changes import Kept, difference
from nodeagent.dataplane.ipvs.settings import Settings
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.iptables.trial import kinds as kinds_of
from tests.fakes.ipvs.memory import MemoryKernel
from tests.unit.nodeagent.dataplane.ipvs.cases import NODE, NODE_ADDRESSES, SETTINGS, STATES, packed, started

THEIRS = VirtualKey(4, 6, packed("192.0.2.1"), 80)


def contents(kernel: MemoryKernel) -> tuple[object, ...]:
    return kernel.virtuals, kernel.sets, kernel.links, kernel.addresses, kernel.save(4), kernel.save(6)


def test_a_probe_leaves_nothing_behind() -> None:
    kernel = MemoryKernel()
    for scheduler in ("", "mh", "lc"):
        probe(Settings(scheduler=scheduler), kernel)
    assert contents(kernel) == contents(MemoryKernel())


def test_what_a_killed_probe_left_does_not_stop_the_next() -> None:
    kernel = MemoryKernel()
    kernel.links[7] = "dp-probe"
    kernel.virtuals[VirtualKey(4, 6, packed("198.51.100.0"), 20000)] = Held(Manner("rr", 0, 0))
    probe(None, kernel)
    assert contents(kernel) == contents(MemoryKernel())


def test_a_probe_names_the_scheduler_that_is_missing() -> None:
    with pytest.raises(DataplaneUnavailable, match="scheduler twos: load ip_vs_twos"):
        probe(Settings(scheduler="twos"), MemoryKernel())


def test_a_probe_without_rights_says_so() -> None:
    kernel = MemoryKernel()
    kernel.refusing = errno.EPERM
    with pytest.raises(DataplaneUnavailable, match="not permitted"):
        probe(None, kernel)


class NoSets(MemoryKernel):
    """A kernel without ipset."""

    def ask(self, channel: Channel, request: bytes) -> Iterator[bytes]:
        if channel is Channel.SETS:
            raise OSError(errno.EOPNOTSUPP, "no")
        return super().ask(channel, request)


def test_a_probe_names_the_sets_that_are_missing() -> None:
    with pytest.raises(DataplaneUnavailable, match=r"no sets of type .*load ip_set"):
        probe(None, NoSets())


def test_cleaning_takes_what_is_ours_and_nothing_else() -> None:
    kernel = MemoryKernel(addresses=[packed(text) for text in NODE_ADDRESSES])
    kernel.rules[4].restore("*nat\n:MINE - [0:0]\n-A MINE -j RETURN\n-A PREROUTING -j MINE\nCOMMIT\n")
    kernel.virtuals[THEIRS] = Held(Manner("lc", 0, 0), {Target(packed("192.0.2.9"), 80): 4})
    before = repr(contents(kernel))
    started(kernel).apply(STATES["affinity, local policy"] + STATES["moved"], NODE, complete=True)
    gone = cleanup(kernel)
    assert {"link kube-ipvs0", "set KUBE-CLUSTER-IP", "IPv4 chain nat KUBE-SERVICES"} <= set(gone)
    assert "KUBE" not in kernel.save(4) + kernel.save(6)
    assert kernel.sets == {}
    assert list(kernel.virtuals) == [THEIRS]
    assert kernel.links == {1: "lo", 2: "eth0"}
    assert "-A PREROUTING -j MINE" in kernel.save(4)
    assert cleanup(kernel) == ()
    assert "eth0" in before


def test_cleaning_keeps_what_another_mode_uses_and_excluded_networks() -> None:
    kernel = MemoryKernel(addresses=[packed(text) for text in NODE_ADDRESSES])
    started(kernel).apply(STATES["moved"], NODE, complete=True)
    portal = '-m comment --comment "kubernetes service portals" -j KUBE-SERVICES'
    kernel.rules[4].restore("*nat\n:KUBE-SERVICES - [0:0]\n-A KUBE-SERVICES -j RETURN\nCOMMIT\n")
    keep = Kept({"nat": ("KUBE-SERVICES",)}, {("nat", "PREROUTING", portal)})
    gone = cleanup(kernel, keep, (ip_network("172.30.0.0/24"),))
    assert "IPv4 chain nat KUBE-SERVICES" not in gone
    nat = kernel.rules[4].tables["nat"]
    assert {chain: found for chain, found in nat.items() if found} == {
        "PREROUTING": [portal], "KUBE-SERVICES": ["-j RETURN"]
    }  # fmt: skip
    assert [key.address for key in kernel.virtuals] == [packed("172.30.0.7")]


def test_jumps_that_another_mode_made_to_chains_of_ours_go_when_ours_are_made() -> None:
    kernel = MemoryKernel()
    kernel.restore(4, "*filter\n:KUBE-PROXY-FIREWALL - [0:0]\n-A OUTPUT -j KUBE-PROXY-FIREWALL\nCOMMIT\n")
    kernel.restore(4, difference(rules.tables(4, Settings()), kernel.save(4)))
    fresh = MemoryKernel()
    fresh.restore(4, difference(rules.tables(4, Settings()), fresh.save(4)))
    assert {n: dict(sorted(t.items())) for n, t in kernel.rules[4].tables.items()} == {
        n: dict(sorted(t.items())) for n, t in fresh.rules[4].tables.items()
    }


def test_rules_that_are_there_are_not_written_again() -> None:
    kernel = MemoryKernel()
    wanted = rules.tables(4, Settings(("10.0.0.0/8",)))
    kernel.restore(4, difference(wanted, kernel.save(4)))
    assert difference(wanted, kernel.save(4)) == ""
    kernel.rules[4].tables["filter"]["INPUT"].pop()
    assert difference(wanted, kernel.save(4)).count("\n") == 3


def test_names_of_sets_fit_the_kernel_and_differ() -> None:
    made = [names.named(family, name) for family in (4, 6) for name in names.TYPES]
    assert len(set(made)) == len(made)
    assert max(map(len, made)) == 31


@pytest.mark.parametrize("family", [4, 6])
def test_each_kind_of_rule_that_is_written_is_tried_first(family: int) -> None:
    def found(lines: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
        return {kind for table, rule in lines for kind in kinds_of(table, rule)}

    written: set[tuple[str, str]] = set()
    for settings in (SETTINGS, Settings(), Settings(interface="cni0"), Settings(masquerade_all=True)):
        for name, table in rules.tables(family, settings).items():
            lines = [rule for chain in table.chains.values() for rule in chain]
            written |= found((name, rule) for rule in (*lines, *(jump.rule for jump in table.jumps)))
    assert found((table, rule) for table, lines in kinds(family).items() for rule in lines) == written


def test_where_ipv6_rules_are_refused_ipv4_is_served_and_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    class Unwritable(MemoryKernel):
        def restore(self, family: int, text: str) -> None:
            if family == 6:
                raise OSError(errno.EINVAL, "ip6tables-restore: unable to initialize table 'nat'")
            super().restore(family, text)

    kernel = Unwritable(addresses=[packed(text) for text in NODE_ADDRESSES])
    dataplane = started(kernel)
    done = dataplane.apply(STATES["one endpoint"], NODE, complete=True)
    assert [(failed.code, "'nat'" in failed.text) for failed in done.failed] == [("UNSUPPORTED", True)]
    assert {virtual.family for virtual in kernel.virtuals} == {4}
    assert not dataplane.pending()
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    assert dataplane.apply([], complete=True).failed == ()
