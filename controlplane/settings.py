"""The control plane's settings: what each means, its flag and default. Knows no I/O."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from controlplane import peers_flags, selectors
from controlplane.endpoints.names import ENDPOINTS, SLICE_MANAGER, SLICES, UPSTREAM, chosen
from controlplane.gate import flags as gate
from controlplane.gate.flags import GateSettings
from controlplane.identity import flags as identity
from controlplane.identity.flags import Security
from controlplane.page.place import unfit
from controlplane.peers_flags import Where
from deltaplane import flags


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of `deltaplane controlplane`."""

    source: str  # kubernetes or manifests
    kubeconfig: str | None  # None: in-cluster
    manifests: str | None
    agent_node_selector: dict[str, str]  # labels of the nodes that the agents' DaemonSet takes; empty: all
    service_selector: str  # label selector of the Services that are served; empty: those that no proxy is named for
    listen: str  # HOST:PORT or unix:///PATH
    listen_loopback: bool  # at the same port of loopback too
    security: Security
    replicas: Where
    health_listen: str  # HOST:PORT or unix:///PATH of the health service alone; empty: none
    metrics_listen: str | None  # HOST:PORT; None: no page
    http_listen: str  # HOST:PORT or unix:///PATH of the page for people; empty: none
    otlp_endpoint: str | None  # HOST:PORT; None: no traces
    trace_sample_ratio: float
    controllers: tuple[str, ...]  # endpoints.names.NAMES that run here
    slice_manager: str  # whose EndpointSlices these make and change, by the label
    gate: GateSettings | None  # of the Pod readiness gate; None: it is off
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
    if given.source == "manifests" and given.service_selector:
        parser.error("--service-selector goes with --source=kubernetes")
    if given.source == "manifests" and given.agent_node_selector:
        parser.error("--agent-node-selector goes with --source=kubernetes")
    if given.listen_loopback and _everywhere(given.listen):
        parser.error(f"--listen-loopback goes with one address of the host: --listen={given.listen}")
    controllers = _controllers(given, parser)
    security = identity.security(given, parser)
    if given.http_listen and (why := unfit(given.http_listen, security.way, insecure=given.insecure)):
        parser.error(f"--http-listen={given.http_listen}: {why}")
    return Settings(
        source=given.source,
        kubeconfig=given.kubeconfig,
        manifests=given.manifests,
        agent_node_selector=given.agent_node_selector,
        service_selector=given.service_selector,
        listen=given.listen,
        listen_loopback=given.listen_loopback,
        security=security,
        replicas=peers_flags.read(given, parser, security),
        health_listen=given.health_listen or "",
        metrics_listen=given.metrics_listen,
        http_listen=given.http_listen or "",
        otlp_endpoint=given.otlp_endpoint,
        trace_sample_ratio=given.trace_sample_ratio,
        controllers=controllers,
        slice_manager=given.endpointslice_manager,
        gate=gate.read(given, parser),
        verbosity=given.v,
    )


def _everywhere(listen: str) -> bool:
    """Whether loopback is in it already, or it is no port at all."""
    if flags.is_socket(listen):
        return True
    try:
        address = ip_address(flags.host_port(listen)[0])
    except ValueError:
        return False  # a name
    return address.is_unspecified or address.is_loopback


def _controllers(given: argparse.Namespace, parser: flags.Parser) -> tuple[str, ...]:
    try:
        controllers = chosen(given.controllers)
    except ValueError as error:
        parser.error(f"--controllers={given.controllers}: {error}")
    folder = given.source == "manifests"
    if folder and ENDPOINTS in controllers:
        parser.error("--controllers=endpoints goes with --source=kubernetes: a folder of manifests has no such readers")
    if given.endpointslice_manager != SLICE_MANAGER and (folder or SLICES not in controllers):
        parser.error("--endpointslice-manager goes with --source=kubernetes and --controllers=endpointslice")
    return controllers


def _selector(text: str) -> str:
    """An argparse type: what an API server takes as labelSelector, and would else refuse again and again."""
    wrong = selectors.problem(text)
    if text and wrong:
        raise argparse.ArgumentTypeError(wrong)
    return text


def _labels(text: str) -> dict[str, str]:
    """An argparse type: a nodeSelector."""
    try:
        return selectors.labels(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _label_value(text: str) -> str:
    """An argparse type: as the API server has it."""
    if not selectors.is_value(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no value of a label: 1 to 63 letters, digits, '-', '_' or '.'")
    return text


def _parser() -> flags.Parser:
    parser = flags.Parser("deltaplane controlplane", "Watch Services and endpoints, and stream deltas to node agents.")
    add = parser.add_argument
    add("--source", choices=["kubernetes", "manifests"], default="kubernetes", help="where objects come from")
    add("--kubeconfig", metavar="FILE", help="how to reach the API server; without it the in-cluster ServiceAccount")
    add("--manifests", metavar="DIR", help="a directory of Kubernetes YAML (with --source=manifests)")
    add(
        "--listen", type=flags.place, default="0.0.0.0:50051", metavar="HOST:PORT",
        help="where agents connect; or unix:///PATH",
    )  # fmt: skip
    add(
        "--listen-loopback", action="store_true",
        help="at that port of 127.0.0.1 and ::1 too, where kubectl port-forward to a Pod on the host's network ends",
    )  # fmt: skip
    add(
        "--service-selector", type=_selector, default="", metavar="SELECTOR",
        help="serve the Services that this label selector chooses, whichever proxy they name, beside another proxy; "
        "default: those without the label service.kubernetes.io/service-proxy-name",
    )  # fmt: skip
    add(
        "--agent-node-selector", type=_labels, default={}, metavar="KEY=VALUE,...",
        help="the nodeSelector of the agents' DaemonSet, so that answers can say which nodes are to have no agent; "
        "default: every node is to have one",
    )  # fmt: skip
    identity.add(parser)
    peers_flags.add(parser)
    add(
        "--health-listen", type=flags.place, metavar="HOST:PORT",
        help="the gRPC health service and nothing else, in plain text, for probes",
    )  # fmt: skip
    add(
        "--metrics-listen",
        type=flags.address,
        metavar="HOST:PORT",
        help="where /metrics is served; without it, nowhere",
    )
    add(
        "--http-listen", type=flags.place, metavar="HOST:PORT",
        help="where the page for people is served; without it, nowhere",
    )  # fmt: skip
    add("--otlp-endpoint", type=flags.address, metavar="HOST:PORT", help="OTLP gRPC collector for traces")
    add("--trace-sample-ratio", type=flags.ratio, default=0.01, metavar="RATIO", help="share of changes traced")
    add(
        "--controllers", default="", metavar="NAME,...",
        help="endpointslice, endpoints: make these of Services and Pods, where no kube-controller-manager does",
    )  # fmt: skip
    add(
        "--endpointslice-manager", type=_label_value, default=SLICE_MANAGER, metavar="NAME",
        help="the label endpointslice.kubernetes.io/managed-by of the slices that are made, and of those that are "
        f"changed and deleted; {UPSTREAM} only where no kube-controller-manager makes slices",
    )  # fmt: skip
    gate.add(parser)
    add("--v", type=int, default=0, metavar="LEVEL", help="log verbosity; 4 and up is debug")
    return parser
