"""Figures of the backends on the page of metrics: kube-proxy's names for iptables, our own for userspace."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from deltaplane import tls
from deltaplane.forwarding import ServiceForwarding
from nodeagent.dataplane.api import DriverMetric, Measured
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.dataplane import IptablesDataplane
from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.userspace.dataplane import UserspaceDataplane
from nodeagent.dataplane.userspace.metrics import metrics
from nodeagent.dataplane.userspace.proxy import Count
from nodeagent.errors import KernelUnavailable
from nodeagent.metrics.collectors import Figures
from nodeagent.metrics.registry import Metrics
from nodeagent.stream.events import Record
from nodeagent.stream.journal import Journal
from tests.fakes.iptables.memory import MemoryIptables
from tests.fakes.ipvs.memory import MemoryKernel as MemoryIpvs
from tests.unit.nodeagent.dataplane.iptables.tracing import programmed, started
from tests.unit.nodeagent.dataplane.nftables.walks import NODE, STATES, both, cluster_ip, key, service, targets

SYNC = "kubeproxy_sync_proxy_rules_iptables"
INVALID = "kubeproxy_iptables_ct_state_invalid_dropped_packets_total"
LOOPBACK = "kubeproxy_iptables_localhost_nodeports_accepted_packets_total"
WRITTEN = "Number of iptables rules written by kube-proxy in last sync"
TABLES = (n.FILTER, n.NAT)


def shown(dataplane: IptablesDataplane) -> Metrics:
    metrics = Metrics(dataplane.mode)
    metrics.show(dataplane)
    return metrics


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def listed(kernel: MemoryIptables, family: int, table: str) -> int:
    """Rules in the chains that kube-proxy counts: all of its own, the kubelet's and the hooks aside."""
    chains = kernel.tables[family, table]
    return sum(len(held) for name, held in chains.items() if name.startswith("KUBE-") and name != n.KUBELET_FIREWALL)


# ---------------------------------------------------------------- iptables


def test_iptables_figures_have_the_names_kinds_labels_and_words_of_kube_proxy() -> None:
    found = {metric.name: metric for metric in shown(programmed(both("web", 1))[0]).registry.collect()}
    for name, kind, labels, text in (
        (f"{SYNC}_total", "gauge", {"table", "ip_family"}, "Total number of iptables rules owned by kube-proxy"),
        (f"{SYNC}_last", "gauge", {"table", "ip_family"}, WRITTEN),
        (f"{SYNC}_restore_failures", "counter", {"ip_family"}, "Cumulative proxy iptables restore failures"),
        (f"{SYNC}_partial_restore_failures", "counter", {"ip_family"},
         "Cumulative proxy iptables partial restore failures"),
    ):  # fmt: skip
        assert (found[name].type, found[name].documentation) == (kind, text)
        assert {frozenset(sample.labels) for sample in found[name].samples} == {frozenset(labels)}
    for name, text in (
        (INVALID, "packets dropped by iptables to work around conntrack problems"),
        (LOOPBACK, "Number of packets accepted on nodeports of loopback interface"),
    ):
        metric = found[name.removesuffix("_total")]
        assert (metric.type, metric.documentation, metric.samples) == ("counter", text, [])


def test_packets_are_read_when_somebody_asks_and_where_the_kernel_counts() -> None:
    kernel = MemoryIptables()
    kernel.counting = True
    metrics = shown(started(kernel))
    assert (value(metrics, INVALID), value(metrics, LOOPBACK)) == (0, 0)
    kernel.counters = {n.INVALID_COUNTER: 7, n.LOOPBACK_COUNTER: 9}
    assert (value(metrics, INVALID), value(metrics, LOOPBACK)) == (7, 9)
    kernel.counters.clear()
    assert value(metrics, INVALID) is None


def test_rules_are_as_many_as_the_tables_hold_after_any_change_and_nothing_is_listed_for_it() -> None:
    dataplane, kernel = programmed()
    metrics = shown(dataplane)
    for state in STATES.values():
        assert not dataplane.apply(state, NODE, complete=True).failed
        again = shown(started(kernel))
        before = kernel.listings
        for family, name in ((4, "IPv4"), (6, "IPv6")):
            for table in TABLES:
                for one in (metrics, again):
                    found = value(one, f"{SYNC}_total", table=table, ip_family=name)
                    assert found == listed(kernel, family, table)
        assert kernel.listings == before


def test_the_last_commit_wrote_so_many_rules() -> None:
    dataplane, _ = programmed(both("web", 1))
    metrics = shown(dataplane)

    def written(table: str = n.NAT, family: str = "IPv4") -> float | None:
        return value(metrics, f"{SYNC}_last", table=table, ip_family=family)

    dataplane.apply([service("other", cluster_ip("172.30.0.5", targets(4)))])
    assert (written(), written(n.FILTER), written(family="IPv6")) == (5, 0, 0)  # two of each chain, and the way there
    dataplane.apply([ServiceForwarding(key("other"))])
    assert written() == 0
    dataplane.apply([service("other", cluster_ip("172.30.0.5", ()))])
    assert (written(), written(n.FILTER)) == (0, 1)


def test_a_refused_restore_is_partial_at_first_and_counts_by_family() -> None:
    dataplane, kernel = programmed(both("web", 1))
    metrics = shown(dataplane)

    def failures(kind: str, family: str = "IPv4") -> float | None:
        return value(metrics, f"{SYNC}_{kind}_failures_total", ip_family=family)

    kernel.tables[4, n.NAT][n.SERVICES].clear()  # a line that is to go is not there
    assert not dataplane.apply([both("web")]).failed
    assert (failures("partial_restore"), failures("restore")) == (1, 0)
    kernel.poison = {"172.30.0.5"}
    assert dataplane.apply([service("bad", cluster_ip("172.30.0.5", targets(1)))]).failed
    assert (failures("partial_restore"), failures("restore")) == (2, 1)
    assert failures("partial_restore", "IPv6") == failures("restore", "IPv6") == 0


# ---------------------------------------------------------------- ipvs


def test_ipvs_counts_restores_that_failed() -> None:
    class Kernel(MemoryIpvs):
        started = False

        def restore(self, family: int, text: str) -> None:
            if family == 6 and self.started:
                raise OSError(1, "no")
            super().restore(family, text)

    kernel = Kernel()
    dataplane = IpvsDataplane(kernel)
    dataplane.start()
    kernel.started = True
    metrics = Metrics(dataplane.mode)
    metrics.show(dataplane)
    with pytest.raises(KernelUnavailable):
        dataplane.apply([both("web", 1)], NODE, complete=True)
    found = {family: value(metrics, f"{SYNC}_restore_failures_total", ip_family=family) for family in ("IPv4", "IPv6")}
    assert found == {"IPv4": 0, "IPv6": 1}


# ---------------------------------------------------------------- userspace


def test_every_number_of_the_proxy_is_shown() -> None:
    count = Count(listeners=1, connections=2, flows=3, waiting=4, held=5, failed=6, connected=7, clients=8, crowded=9)
    found = {figure.name.removeprefix("deltaplane_userspace_"): figure.values[0][1] for figure in metrics(count)}
    assert found == {
        "listeners": 1, "connections_open": 2, "udp_clients_open": 3, "listeners_waiting": 4, "held_bytes": 5,
        "failed_clients_total": 6, "connections_total": 7, "udp_clients_total": 8,
        "crowded_connections_total": 9,
    }  # fmt: skip
    assert issubclass(UserspaceDataplane, Measured)


def test_while_the_backend_cannot_tell_the_rest_of_the_page_is_as_always() -> None:
    class Mute(IptablesDataplane):
        def metrics(self) -> Iterable[DriverMetric]:
            raise KernelUnavailable("the proxy does not answer")

    metrics = shown(Mute(MemoryIptables()))
    assert value(metrics, "deltaplane_kernel_messages_total") == 0


# ---------------------------------------------------------------- what operators are told


class Userspace:
    """A backend with the figures of userspace mode."""

    def metrics(self) -> Iterable[DriverMetric]:
        return metrics(Count(0, 0, 0, 0, 0, 0, 0, 0, 0))


def test_every_metric_of_the_operators_list_exists(tmp_path: Path) -> None:
    everything = [Metrics("nftables"), shown(programmed()[0]), Metrics("userspace")]
    everything[1].chose("auto", "iptables", fell_back=False)
    everything[2].registry.register(Figures(Userspace()))
    everything[0].watch({})
    everything[0].crowds(int)
    everything[0].shows(tls.Kept(tls.Files()))
    journal = Journal(tmp_path)
    journal.keep(Record((b"begin",), whole=True))
    everything[0].keeps(journal)
    names = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metrics in everything
        for metric in metrics.registry.collect()
    }
    manual = (Path(__file__).parents[4] / "docs" / "operating.md").read_text("utf-8")
    table = manual.partition("**Metrics.**")[2].partition("\n**")[0]
    said = [name for row in table.splitlines()[4:] for name in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert len(said) > 20
    for text in said:
        for name in expanded(text):
            assert any(re.fullmatch(name.replace("...", ".+"), one) for one in names), text


def expanded(text: str) -> list[str]:
    """One for each of the words in braces, as a shell does it."""
    before, brace, rest = text.partition("{")
    if not brace:
        return [text]
    words, _, after = rest.partition("}")
    return [f"{before}{word}{end}" for word in words.split(",") for end in expanded(after)]
