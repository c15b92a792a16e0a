"""Grafana dashboards, described shortly and written as the JSON that Grafana imports.

A panel is a title, a unit, what it says, and queries with their legends; it is drawn as time series unless it says
otherwise. `python -m deploy.monitoring` writes the files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PLANE, AGENT = 'job="deltaplane-controlplane"', 'job="deltaplane-agent"'
NODE = f'{AGENT}, node="$node"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH, HEIGHT = 24, 8  # of Grafana's grid
RATE = "[$__rate_interval]"


@dataclass(frozen=True)
class Panel:
    """`queries`: (PromQL, legend). `kind`: a panel type of Grafana. `columns`: of 24."""

    title: str
    text: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    columns: int = 8


@dataclass(frozen=True)
class Dashboard:
    """`by_node`: it shows one node, which is chosen."""

    uid: str
    title: str
    panels: tuple[Panel, ...]
    by_node: bool = False


def quantiles(metric: str, selector: str, by: str = "") -> tuple[tuple[str, str], ...]:
    """Half, 99 % and 99.9 % of a histogram's observations were within this."""
    inner = f"sum by ({by + ', ' if by else ''}le) (rate({metric}_bucket{{{selector}}}{RATE}))"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple((f"histogram_quantile({q}, {inner})", f"{q * 100:g} %{legend}") for q in (0.5, 0.99, 0.999))


def stages(metric: str, selector: str) -> tuple[tuple[str, str], ...]:
    """99 % of each stage."""
    inner = f"sum by (stage, le) (rate({metric}_bucket{{{selector}}}{RATE}))"
    return ((f"histogram_quantile(0.99, {inner})", "{{stage}}"),)


FLEET = Dashboard(
    "deltaplane-fleet",
    "Deltaplane: fleet",
    (
        Panel("Nodes by state", "As the control plane sees its streams.",
              ((f"sum by (state) (deltaplane_streams{{{PLANE}}})", "{{state}}"),)),
        Panel("Nodes that lag", "Connected nodes that have lacked a revision for longer than this.",
              ((f"sum by (seconds) (deltaplane_nodes_lagging{{{PLANE}}})", "> {{seconds}} s"),)),
        Panel("Slowest nodes", "The five that lag most, where that is more than a second.",
              ((f"max by (node) (deltaplane_slowest_node_lag_seconds{{{PLANE}}})", "{{node}}"),
               (f"max(deltaplane_stream_lag_seconds{{{PLANE}}})", "the slowest")), "s"),
        Panel("Fan-out", "Changes a second at a replica, and the messages to agents that they became.",
              ((f"max(rate(deltaplane_head_revision{{{PLANE}}}{RATE}))", "revisions"),
               (f"sum(rate(deltaplane_sent_messages_total{{{PLANE}}}{RATE}))", "messages")), "ops"),
        Panel("Sent", "Bytes a second to all agents.",
              ((f"sum(rate(deltaplane_sent_bytes_total{{{PLANE}}}{RATE}))", "bytes"),
               (f"sum(rate(deltaplane_snapshot_bytes_total{{{PLANE}}}{RATE}))", "of these in snapshots")), "Bps"),
        Panel("Commits on nodes", "As their Acks report them; failed: an object fails there.",
              ((f"sum by (result) (rate(deltaplane_node_commits_total{{{PLANE}}}{RATE}))", "{{result}}"),), "ops"),
        Panel("Resyncs by reason", "States that agents asked for again.",
              ((f"sum by (reason) (increase(deltaplane_resyncs_total{{{PLANE}}}{RATE}))", "{{reason}}"),)),
        Panel("How states were brought up", "By what led to it and by what was sent.",
              ((f"sum by (reason, extent) (increase(deltaplane_resumes_total{{{PLANE}}}{RATE}))",
                "{{reason}}: {{extent}}"),)),
        Panel("Repairs and refusals", "Tables that others changed, and commits that kernels refused, on all nodes.",
              ((f"sum(increase(deltaplane_kernel_repairs_total{{{AGENT}}}{RATE}))", "repairs"),
               (f"sum(increase(deltaplane_kernel_refusals_total{{{AGENT}}}{RATE}))", "refusals"))),
        Panel("Failing objects", "On nodes, by reason; and objects that no node gets as they are.",
              ((f"sum by (code) (deltaplane_objects_failing{{{AGENT}}})", "{{code}}"),
               (f"max(deltaplane_objects_unusable{{{PLANE}}})", "unusable"))),
        Panel("Safety brakes", "Nodes that hold a change which would remove most Services.",
              ((f"sum(deltaplane_safety_brakes_held{{{PLANE}}})", "held"),)),
        Panel("Sources", "For how long a resource has not been followed.",
              ((f"max by (instance, resource) (deltaplane_source_failing_seconds{{{PLANE}}})",
                "{{instance}} {{resource}}"),), "s"),
        Panel("Objects", "That are streamed.", ((f"max by (kind) (deltaplane_objects{{{PLANE}}})", "{{kind}}"),)),
        Panel("Pods that end", "Their questions at /drain on all nodes, by result.",
              ((f"sum by (result) (increase(deltaplane_drain_requests_total{{{AGENT}}}{RATE}))", "{{result}}"),
               (f"sum(increase(deltaplane_drain_late_nodes_total{{{AGENT}}}{RATE}))", "nodes that were late"))),
        Panel("How long Pods wait to end", "From the question at /drain to its answer.",
              quantiles("deltaplane_drain_seconds", AGENT), "s"),
        Panel("Readiness gate: Pods", "That lack only their gate, and gates that were set, by reason.",
              ((f"max(deltaplane_gate_pods_waiting{{{PLANE}}})", "waiting"),
               (f"sum by (reason) (increase(deltaplane_gate_pods_set_total{{{PLANE}}}{RATE}))", "set: {{reason}}"),
               (f"sum(increase(deltaplane_gate_write_failures_total{{{PLANE}}}{RATE}))", "failed writes"),
               (f"max(deltaplane_gate_nodes_left_out{{{PLANE}}})", "nodes left out"))),
        Panel("Readiness gate: longest wait", "Of a Pod that lacks only its gate.",
              ((f"max(deltaplane_gate_longest_wait_seconds{{{PLANE}}})", "longest"),), "s"),
        Panel("Leases", "1 at the replica that holds it; of each that there is.",
              ((f"deltaplane_lease_held{{{PLANE}}}", "{{lease}} {{instance}}"),)),
        Panel("Traces", "Spans a second, by what became of them.",
              ((f"sum by (result) (rate(deltaplane_trace_spans_total{{{PLANE}}}{RATE}))", "{{result}}"),
               (f"max(deltaplane_trace_collector_away{{{PLANE}}})", "the collector is away")), "ops"),
        Panel("Memory", "Of the replicas.",
              ((f"process_resident_memory_bytes{{{PLANE}}}", "{{instance}}"),), "bytes"),
        Panel("Processor", "Of the replicas, in cores.",
              ((f"rate(process_cpu_seconds_total{{{PLANE}}}{RATE})", "{{instance}}"),)),
    ),
)  # fmt: skip

ONE_NODE = Dashboard(
    "deltaplane-node",
    "Deltaplane: one node",
    (
        Panel("Lag", "For how long this kernel has not been known to have the newest revision.",
              ((f"deltaplane_head_lag_seconds{{{NODE}}}", "lag"),
               (f"deltaplane_last_contact_seconds{{{NODE}}}", "since a replica's last message")), "s"),
        Panel("Stream", "1 while a replica has welcomed the agent.",
              ((f"deltaplane_stream_connected{{{NODE}}}", "connected"),)),
        Panel("Revisions", "Announced by a replica, and in this kernel.",
              ((f"deltaplane_head_revision{{{NODE}}}", "announced"),
               (f"deltaplane_applied_revision{{{NODE}}}", "in the kernel"))),
        Panel("Stages on the node, 99 %", "A change waits, is resolved, and is written to the kernel.",
              stages("deltaplane_agent_stage_seconds", NODE), "s"),
        Panel("From the API event to this kernel", "By two machines' clocks. A dot is a trace.",
              quantiles("deltaplane_agent_propagation_seconds", NODE), "s"),
        Panel("Commits", "How long they take, of changes and of the whole state.",
              quantiles("deltaplane_commit_duration_seconds", NODE), "s"),
        Panel("Written to the kernel", "Elements and messages a second.",
              ((f"rate(deltaplane_kernel_elements_total{{{NODE}}}{RATE})", "elements"),
               (f"rate(deltaplane_kernel_messages_total{{{NODE}}}{RATE})", "messages")), "ops"),
        Panel("Repairs, refusals, resyncs", "What did not go as it should.",
              ((f"increase(deltaplane_kernel_repairs_total{{{NODE}}}{RATE})", "repairs"),
               (f"increase(deltaplane_kernel_refusals_total{{{NODE}}}{RATE})", "refusals"),
               (f"increase(deltaplane_resyncs_total{{{NODE}}}{RATE})", "resync: {{reason}}"))),
        Panel("Failing Services", "By reason.",
              ((f"deltaplane_objects_failing{{{NODE}}}", "{{code}}"),
               (f"deltaplane_safety_brake_services{{{NODE}}}", "held by the safety brake"))),
        Panel("Streams that ended", "By reason.",
              ((f"increase(deltaplane_streams_ended_total{{{NODE}}}{RATE})", "{{reason}}"),)),
        Panel("Pods that end here", "Their questions at /drain, by result.",
              ((f"increase(deltaplane_drain_requests_total{{{NODE}}}{RATE})", "{{result}}"),
               (f"deltaplane_drain_waiting{{{NODE}}}", "waiting now"))),
        Panel("Memory", "Of the agent.", ((f"process_resident_memory_bytes{{{NODE}}}", "resident"),), "bytes"),
        Panel("Processor", "Of the agent, in cores.",
              ((f"rate(process_cpu_seconds_total{{{NODE}}}{RATE})", "cores"),)),
    ),
    by_node=True,
)  # fmt: skip

_BUCKETS = f"deltaplane_propagation_seconds_bucket{{{PLANE}}}"
_WITHIN = f'deltaplane_propagation_seconds_bucket{{{PLANE}, le="1.0"}}'
PROPAGATION = Dashboard(
    "deltaplane-propagation",
    "Deltaplane: propagation and its objective",
    (
        Panel("Within 1 s, 30 days", "The objective: 99 % of all commits on all nodes within 1 s of the API event.",
              (((f"sum(increase({_WITHIN}[30d])) "
                f"/ sum(increase(deltaplane_propagation_seconds_count{{{PLANE}}}[30d]))"), "within 1 s"),),
              "percentunit", "stat", 6),
        Panel("Late", "The share of commits that came later than 1 s after the change, and the objective's 1 %.",
              (("deltaplane:propagation_late:ratio_rate5m", "5 minutes"),
               ("deltaplane:propagation_late:ratio_rate1h", "1 hour"),
               ("deltaplane:propagation_late:ratio_rate6h", "6 hours"),
               ("vector(0.01)", "objective")), "percentunit", columns=18),
        Panel("From the API event to the kernels", "Over all nodes. A dot is a trace, where changes are traced.",
              quantiles("deltaplane_propagation_seconds", PLANE), "s", columns=12),
        Panel("Distribution", "Commits by how long they took.",
              ((f"sum by (le) (increase({_BUCKETS}{RATE}))", "{{le}}"),), "s", "heatmap", 12),
        Panel("Stages, 99 %", "From the endpoint controller's annotation to the Ack: where the time goes.",
              stages("deltaplane_propagation_stage_seconds", PLANE), "s", columns=12),
        Panel("Stages, mean", "What each adds to the whole.",
              (((f"sum by (stage) (rate(deltaplane_propagation_stage_seconds_sum{{{PLANE}}}{RATE})) "
                f"/ sum by (stage) (rate(deltaplane_propagation_stage_seconds_count{{{PLANE}}}{RATE}))"),
                "{{stage}}"),), "s", columns=12),
    ),
)  # fmt: skip

ALL = (FLEET, ONE_NODE, PROPAGATION)


def rendered(dashboard: Dashboard) -> dict[str, Any]:
    """As Grafana imports it."""
    return {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "tags": ["deltaplane"],
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {"list": _variables(dashboard)},
        "panels": _placed(dashboard.panels),
    }


def _variables(dashboard: Dashboard) -> list[dict[str, Any]]:
    source = {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}
    query = f"label_values(deltaplane_applied_revision{{{AGENT}}}, node)"
    node = {"name": "node", "label": "Node", "type": "query", "datasource": SOURCE, "query": query, "refresh": 2}
    return [source, node] if dashboard.by_node else [source]


def _placed(panels: tuple[Panel, ...]) -> list[dict[str, Any]]:
    """Beside one another as far as they fit, then below."""
    found: list[dict[str, Any]] = []
    x = y = 0
    for number, panel in enumerate(panels, 1):
        if x + panel.columns > WIDTH:
            x, y = 0, y + HEIGHT
        place = {"x": x, "y": y, "w": panel.columns, "h": HEIGHT}
        found.append({"id": number, "gridPos": place, **_panel(panel)})
        x += panel.columns
    return found


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + number), "expr": expression, "legendFormat": legend, "datasource": SOURCE,
            "exemplar": "_bucket" in expression, "format": "heatmap" if panel.kind == "heatmap" else "time_series",
        }
        for number, (expression, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    options = {"calculate": False, "yAxis": {"unit": panel.unit}} if panel.kind == "heatmap" else {}
    return {
        "title": panel.title,
        "description": panel.text,
        "type": panel.kind,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": options,
        "targets": targets,
    }
