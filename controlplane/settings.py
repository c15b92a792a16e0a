"""The control plane's settings: what each means, its flag and default. Knows no I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deltaplane import flags


@dataclass(frozen=True, slots=True)
class Settings:
    """What `deltaplane controlplane` was told."""

    source: str  # kubernetes or manifests
    kubeconfig: str | None  # None: in-cluster
    manifests: str | None
    listen: str  # HOST:PORT
    metrics_listen: str | None  # HOST:PORT; None: no page
    otlp_endpoint: str | None  # HOST:PORT; None: no traces
    trace_sample_ratio: float
    verbosity: int


def parse(arguments: Sequence[str]) -> Settings:
    """Reads the flags. Raises `flags.UsageError` with one line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if given.source == "manifests" and not given.manifests:
        parser.error("--source=manifests needs --manifests=DIR")
    if given.source == "kubernetes" and given.manifests:
        parser.error("--manifests goes with --source=manifests")
    if given.source == "manifests" and given.kubeconfig:
        parser.error("--kubeconfig goes with --source=kubernetes")
    if not given.insecure:
        parser.error("only plain text is there yet: pass --insecure, on a network you trust")
    return Settings(
        source=given.source,
        kubeconfig=given.kubeconfig,
        manifests=given.manifests,
        listen=given.listen,
        metrics_listen=given.metrics_listen,
        otlp_endpoint=given.otlp_endpoint,
        trace_sample_ratio=given.trace_sample_ratio,
        verbosity=given.v,
    )


def _parser() -> flags.Parser:
    parser = flags.Parser("deltaplane controlplane", "Watch Services and endpoints, and stream deltas to node agents.")
    add = parser.add_argument
    add("--source", choices=["kubernetes", "manifests"], default="kubernetes", help="where objects come from")
    add("--kubeconfig", metavar="FILE", help="how to reach the API server; without it the in-cluster ServiceAccount")
    add("--manifests", metavar="DIR", help="a directory of Kubernetes YAML (with --source=manifests)")
    add("--listen", type=flags.address, default="0.0.0.0:50051", metavar="HOST:PORT", help="where agents connect")
    add("--insecure", action="store_true", help="plain text, no authentication")
    add(
        "--metrics-listen",
        type=flags.address,
        metavar="HOST:PORT",
        help="where /metrics is served; without it, nowhere",
    )
    add("--otlp-endpoint", type=flags.address, metavar="HOST:PORT", help="OTLP gRPC collector for traces")
    add("--trace-sample-ratio", type=flags.ratio, default=0.01, metavar="RATIO", help="share of changes traced")
    add("--v", type=int, default=0, metavar="LEVEL", help="log verbosity; 4 and up is debug")
    return parser
