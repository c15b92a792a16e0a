"""Names of chains and tables: those of kube-proxy 1.36 (behaviour 2.13), so that every runbook and tool still works."""

from __future__ import annotations

from hashlib import sha256

from nodeagent.linux.iptables.saved import FILTER, MANGLE, NAT, TABLES

__all__ = ["FILTER", "MANGLE", "NAT", "TABLES"]

SERVICES = "KUBE-SERVICES"
EXTERNAL_SERVICES = "KUBE-EXTERNAL-SERVICES"
NODE_PORTS = "KUBE-NODEPORTS"
POSTROUTING = "KUBE-POSTROUTING"
MARK_MASQ = "KUBE-MARK-MASQ"
FORWARD = "KUBE-FORWARD"
PROXY_FIREWALL = "KUBE-PROXY-FIREWALL"
CANARY = "KUBE-PROXY-CANARY"
KUBELET_FIREWALL = "KUBE-FIREWALL"  # the kubelet's too: a rule may be added there, nothing else is ours

SVC, SVL, EXT, FW, SEP = "KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"  # RFC 4648, base32
_PAIRS = tuple(first + second for first in _DIGITS for second in _DIGITS)
_SHIFTS = tuple(range(70, -10, -10))
_OF_SERVICES = (FW, EXT, "KUBE-XLB-", SVC, SVL, SEP)  # XLB was made until Kubernetes 1.23
DESCENT = tuple(prefix[:8] for prefix in _OF_SERVICES)
"""How the chains' names begin, those that lead to others first."""

INVALID_COUNTER, LOOPBACK_COUNTER = "ct_state_invalid_dropped_pkts", "localhost_nps_accepted_pkts"
COUNTERS = (INVALID_COUNTER, LOOPBACK_COUNTER)
"""The kernel's counters that rules count into, where it has any (`nodeagent.linux.netlink.accounting`)."""


def port_name(namespace: str, name: str, port: str) -> str:
    """A service port as comments name it: namespace/name:port, or without the port where it has no name."""
    return f"{namespace}/{name}:{port}" if port else f"{namespace}/{name}"


def chain(prefix: str, service_port: str, protocol: str, endpoint: str = "") -> str:
    """A Service's chain: the first 16 base32 digits of a sha256 follow the prefix. `endpoint`, for SEP, is ip:port."""
    digest = sha256(f"{service_port}{protocol}{endpoint}".encode()).digest()
    number = int.from_bytes(digest[:10], "big")
    # Two digits at a time: a cold load names 100,000 chains, and base64.b32encode is written in Python.
    return prefix + "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])


def is_of_services(name: str) -> bool:
    """Whether a chain of the nat table belongs to some Service."""
    return name.startswith(_OF_SERVICES)
