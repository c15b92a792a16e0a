"""What kube-proxy publishes of iptables, under its names and in its words; no table is listed for it.

Called by `dataplane` at a scrape. Its restores of everything, which come after one of a part was refused, count as
those after the tables were read again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator

from nodeagent.dataplane.api import DriverMetric
from nodeagent.dataplane.iptables import naming as n
from nodeagent.dataplane.iptables.delivery import Delivery
from nodeagent.dataplane.restore_metrics import FAMILY_NAMES, SYNC, failed_restores, failures
from nodeagent.linux.iptables.programs import Iptables

_PACKETS = (
    (
        "kubeproxy_iptables_ct_state_invalid_dropped_packets_total",
        "packets dropped by iptables to work around conntrack problems",
        n.INVALID_COUNTER,
    ),
    (
        "kubeproxy_iptables_localhost_nodeports_accepted_packets_total",
        "Number of packets accepted on nodeports of loopback interface",
        n.LOOPBACK_COUNTER,
    ),
)
_COUNTED = (n.FILTER, n.NAT)  # in the third one there is but the canary


def metrics(kernel: Iptables, deliveries: Collection[Delivery]) -> Iterator[DriverMetric]:
    """Packets where this kernel counts any; rules and failures by family."""
    for name, text, counter in _PACKETS:
        packets = kernel.packets(counter)
        yield DriverMetric(name, text, counter=True, labels=(), values=() if packets is None else (((), packets),))
    yield _rules("total", "Total number of iptables rules owned by kube-proxy", deliveries, _held)
    yield _rules("last", "Number of iptables rules written by kube-proxy in last sync", deliveries, _written)
    yield failed_restores((one.tracker.family, one.refusals) for one in deliveries)
    text = "Cumulative proxy iptables partial restore failures"
    yield failures("partial_restore", text, ((one.tracker.family, one.doubts) for one in deliveries))


def _held(delivery: Delivery, table: str) -> int:
    return delivery.tracker.tables.rules(table)


def _written(delivery: Delivery, table: str) -> int:
    return delivery.written[table]


def _rules(
    name: str, text: str, deliveries: Collection[Delivery], number: Callable[[Delivery, str], int]
) -> DriverMetric:
    values = (
        ((table, FAMILY_NAMES[one.tracker.family]), number(one, table)) for one in deliveries for table in _COUNTED
    )
    return DriverMetric(f"{SYNC}_{name}", text, counter=False, labels=("table", "ip_family"), values=tuple(values))
