"""What goes through the proxy, for those who watch. Called by `dataplane` at a scrape."""

from __future__ import annotations

from collections.abc import Iterator

from nodeagent.dataplane.api import DriverMetric
from nodeagent.dataplane.userspace.proxy import Count

_FIGURES = (
    ("listeners", "Listeners that are open.", "listeners"),
    ("listeners_waiting", "Listeners that accept nobody, because there are as many connections as allowed.", "waiting"),
    ("connections_open", "TCP connections through the agent.", "connections"),
    ("connections_total", "TCP connections that were taken.", "connected"),
    ("udp_clients_open", "UDP clients that are remembered.", "flows"),
    ("udp_clients_total", "UDP clients that got an endpoint.", "clients"),
    ("crowded_connections_total", "TCP connections that were reset: their client had its share.", "crowded"),
    ("failed_clients_total", "Clients that no endpoint was found for.", "failed"),
    ("held_bytes", "Bytes taken from one end of a connection and not yet by the other.", "held"),
)


def metrics(count: Count) -> Iterator[DriverMetric]:
    """One for each number of it."""
    for name, text, field in _FIGURES:
        counter = name.endswith("_total")
        values = (((), getattr(count, field)),)
        yield DriverMetric(f"deltaplane_userspace_{name}", text, counter=counter, labels=(), values=values)
