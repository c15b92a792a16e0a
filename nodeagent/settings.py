"""The agent's settings: what each means, its flag and default. Flags are kube-proxy's where the thing is the same."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_network

from deltaplane import flags

MODES = ("nftables",)


@dataclass(frozen=True, slots=True)
class Settings:
    """What `deltaplane agent` was told."""

    servers: tuple[str, ...]  # HOST:PORT, tried in order
    node_name: str  # lower case, as the kubelet registers it
    proxy_mode: str
    cluster_cidrs: tuple[str, ...]  # at most one per family; none: no local-traffic detector
    state_dir: str | None  # None: nothing is kept over a restart but the kernel's own state
    health_listen: str | None  # HOST:PORT of the gRPC health service; None: none
    verbosity: int


def parse(arguments: Sequence[str]) -> Settings:
    """Reads the flags. Raises `flags.UsageError` with one line."""
    parser = _parser()
    given = parser.parse_args(arguments)
    if not given.insecure:
        parser.error("only plain text is there yet: pass --insecure, on a network you trust")
    if given.proxy_mode not in MODES:
        parser.error(f"--proxy-mode={given.proxy_mode}: not one of {', '.join(MODES)}")
    node_name = (given.hostname_override or socket.gethostname()).strip().lower()
    if not node_name:
        parser.error("--hostname-override: empty, and this machine has no host name")
    return Settings(
        servers=given.server,
        node_name=node_name,
        proxy_mode=given.proxy_mode,
        cluster_cidrs=first_of_each_family(given.cluster_cidr),
        state_dir=given.state_dir,
        health_listen=given.health_listen or None,
        verbosity=given.v,
    )


def first_of_each_family(cidrs: Sequence[str]) -> tuple[str, ...]:
    """kube-proxy's reading of a CIDR list: the first of each family counts (I5)."""
    seen: dict[int, str] = {}
    for cidr in cidrs:
        seen.setdefault(ip_network(cidr).version, cidr)
    return tuple(seen.values())


def _health_address(text: str) -> str:
    return flags.address(text) if text else ""


def _parser() -> flags.Parser:
    parser = flags.Parser("deltaplane agent", "Take deltas from a control plane and program this node's kernel.")
    add = parser.add_argument
    add("--server", type=flags.addresses, required=True, metavar="HOST:PORT[,...]", help="control plane replicas")
    add("--insecure", action="store_true", help="plain text, no authentication")
    add("--hostname-override", metavar="NODE", help="this node's name; default: the host name")
    add("--proxy-mode", default="nftables", metavar="MODE", help="kernel backend: nftables")
    add("--cluster-cidr", type=flags.cidrs, default=(), metavar="CIDR[,CIDR]", help="pod addresses, one per family")
    add("--state-dir", metavar="DIR", help="where the agent keeps what it was sent, to resume after a restart")
    add("--health-listen", type=_health_address, default="", metavar="HOST:PORT", help="gRPC health service for probes")
    add("--v", type=int, default=2, metavar="LEVEL", help="log verbosity; 4 and up is debug")
    return parser
