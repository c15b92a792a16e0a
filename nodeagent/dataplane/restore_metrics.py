"""What kube-proxy publishes of failed restores, in every mode that writes iptables rules, under its names."""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.dataplane.api import DriverMetric

SYNC = "kubeproxy_sync_proxy_rules_iptables"
FAMILY_NAMES = {4: "IPv4", 6: "IPv6"}


def failed_restores(found: Iterable[tuple[int, int]]) -> DriverMetric:
    """How many have failed, by family: for every mode that restores any."""
    return failures("restore", "Cumulative proxy iptables restore failures", found)


def failures(name: str, text: str, found: Iterable[tuple[int, int]]) -> DriverMetric:
    values = tuple(((FAMILY_NAMES[family],), number) for family, number in found)
    return DriverMetric(f"{SYNC}_{name}_failures_total", text, counter=True, labels=("ip_family",), values=values)
