"""Kinds of rules that a kernel may lack: each is tried, the mode goes on without what it can do without."""

from __future__ import annotations

import logging

import pytest
from msgspec.structs import replace

from deltaplane.forwarding import NodeForwarding
from nodeagent.dataplane.iptables import kinds, naming
from nodeagent.dataplane.iptables.base import HOOKS, KUBELETS, base
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.iptables.render import render
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.errors import DataplaneUnavailable, KernelUnavailable
from nodeagent.linux.iptables import trial
from tests.fakes.iptables.memory import MemoryIptables
from tests.unit.nodeagent.dataplane.iptables.tracing import SETTINGS, started
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES, both, cluster_ip, service, targets

EVERYWHERE = NodeForwarding((), (4, 6))
OPTIONAL_TEXTS = {
    kinds.NFACCT: "-m nfacct",
    kinds.RECENT: "-m recent",
    kinds.REJECT: "-j REJECT",
    kinds.RANDOM: "--random-fully",
    kinds.SCTP: "-m sctp",
}


def written(family: int) -> set[trial.Rule]:
    """The kinds of all that is ever written: of the corpus, of the walks, with every setting."""
    found: set[trial.Rule] = set()
    services = [service for state in STATES.values() for service in state]
    others = [
        replace(one, entries=tuple(replace(e, frontend=e.frontend._replace(protocol=number)) for e in one.entries))
        for one in services
        for number in (17, 132)
    ]
    counting, wide = replace(SETTINGS, counted=naming.COUNTERS), Settings(masquerade_all=True)
    for settings in (counting, Settings(interface="cni0"), wide):
        for node in (None, NODE, EVERYWHERE):
            made = base(family, settings, node)
            lines = [*HOOKS, *KUBELETS, *made.lines, *(made.node_ports or ())]
            found |= {kind for line in lines for kind in trial.kinds(line.table, line.rule)}
            chains = made.chains.items()
            found |= {kind for (table, _), rules in chains for rule in rules for kind in trial.kinds(table, rule)}
        for one in (*services, *others):
            rendered = render(one, family, settings, loopback=True)
            found |= {kind for line in rendered.lines for kind in trial.kinds(line.table, line.rule)}
            rules = [rule for chain in rendered.chains.values() for rule in chain]
            found |= {kind for rule in rules for kind in trial.kinds(naming.NAT, rule)}
    return found


@pytest.mark.parametrize("family", [4, 6])
def test_each_kind_of_rule_that_is_written_is_tried_first(family: int) -> None:
    rules = [*kinds.required(family), *(r for option in kinds.optional(family).values() for r in option.rules)]
    tried = {kind for rule in rules for kind in trial.kinds(*rule)}
    assert written(family) - tried == set()
    assert tried - written(family) == set()


@pytest.mark.parametrize(("name", "text"), OPTIONAL_TEXTS.items())
def test_without_an_option_the_rest_is_written_and_it_is_said_once(
    name: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    kernel = MemoryIptables()
    kernel.counting = True
    kernel.poison.add(text)
    wanted = (*STATES["affinity"], service("empty", cluster_ip("172.30.0.9", ())))
    dataplane = started(kernel)
    assert not dataplane.apply(wanted, EVERYWHERE, complete=True).failed
    assert not dataplane.pending()
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert [f"no {name} for IPv4, IPv6" in line for line in warnings] == [True]
    rules = [rule for chains in kernel.tables.values() for held in chains.values() for rule in held]
    assert not any(text in rule for rule in rules)
    assert any("--to-destination" in rule for rule in rules)


def test_with_every_option_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    started(MemoryIptables()).apply([both("web", 1)], NODE, complete=True)
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "text", ["-m statistic", "-m addrtype", "-j DNAT", "-m conntrack", "-j MASQUERADE", "-m comment"]
)
def test_without_what_is_required_the_mode_is_not_available_and_says_what_was_refused(text: str) -> None:
    kernel = MemoryIptables()
    kernel.poison.add(text)
    with pytest.raises(DataplaneUnavailable, match="IPv4 rules cannot be written"):
        IptablesDataplane(kernel, SETTINGS).start()


def test_where_ipv6_can_be_listed_but_not_written_ipv4_is_served(caplog: pytest.LogCaptureFixture) -> None:
    kernel = MemoryIptables()
    kernel.unwritable.add(6)
    dataplane = started(kernel)
    done = dataplane.apply(
        [both("web", 1), service("other", cluster_ip("172.30.0.9", targets(2)))], NODE, complete=True
    )
    assert [(failed.code, failed.key.name) for failed in done.failed] == [("UNSUPPORTED", "")]
    assert "IPv6" in done.failed[0].text
    assert not dataplane.pending()
    assert any("--to-destination" in rule for held in kernel.tables[4, naming.NAT].values() for rule in held)
    (told,) = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert "IPv6" in told
    inputs = len(kernel.inputs)
    assert dataplane.apply([], complete=True).failed == ()  # no Service has an address there any more
    assert len(kernel.inputs) == inputs + 1


def test_where_ipv6_is_refused_only_once_it_is_written_ipv4_is_served(caplog: pytest.LogCaptureFixture) -> None:
    kernel = MemoryIptables()
    dataplane = started(kernel)
    kernel.unwritable.add(6)
    done = dataplane.apply([both("web", 1)], NODE, complete=True)
    assert [failed.code for failed in done.failed] == ["UNSUPPORTED"]
    assert not dataplane.pending()
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1


def test_what_was_written_once_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    """A family that the kernel took before is not given up for a refusal that may pass."""
    kernel = MemoryIptables()
    dataplane = started(kernel)
    dataplane.apply([both("web", 1)], NODE, complete=True)
    kernel.tables[6, naming.FILTER][naming.FORWARD].clear()
    kernel.unwritable.add(6)
    with pytest.raises(KernelUnavailable):
        dataplane.repair()
    kernel.unwritable.clear()
    assert dataplane.repair().failed == ()
    assert kernel.tables[6, naming.FILTER][naming.FORWARD]


def test_without_ipv6_services_that_have_it_are_reported() -> None:
    kernel = MemoryIptables(families=(4,))
    dataplane = started(kernel)
    assert [failed.code for failed in dataplane.apply([both("web", 1)], NODE, complete=True).failed] == ["UNSUPPORTED"]
    kept = replace(both("web", 1), entries=tuple(e for e in both("web", 1).entries if e.frontend.family == 4))
    assert dataplane.apply([kept]).failed == ()
