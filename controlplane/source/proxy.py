"""The HTTP proxy for an address, by the environment's rules as Go's golang.org/x/net/http/httpproxy reads them.

All Kubernetes programs read HTTPS_PROXY, HTTP_PROXY and NO_PROXY this way; Python's own rules know no networks. Pure;
called by `transport`.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

Address = IPv4Address | IPv6Address
_PORTS = {"http": 80, "https": 443}


def proxy_for(url: str, environment: Mapping[str, str]) -> str:
    """The URL of the proxy; empty: connect directly. `url` has a scheme and a host."""
    parts = urlsplit(url)
    name = f"{parts.scheme}_proxy"
    proxy = environment.get(name.upper()) or environment.get(name) or ""
    host = (parts.hostname or "").lower()
    if not proxy or _direct(host, parts.port or _PORTS[parts.scheme], environment):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _direct(host: str, port: int, environment: Mapping[str, str]) -> bool:
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return True
    rules = environment.get("NO_PROXY") or environment.get("no_proxy") or ""
    return any(_covers(rule.strip().lower(), host, port, address) for rule in rules.split(","))


def _covers(rule: str, host: str, port: int, address: Address | None) -> bool:
    """Whether an entry of NO_PROXY matches the host: `*`, a network, or an address or name, perhaps with a port."""
    if rule in {"", "*"}:
        return rule == "*"
    if "/" in rule:
        return _contains(rule, address)
    name, number = _split(rule)
    if not name or number not in {"", str(port)}:
        return False
    wanted = _address(name)
    if wanted is not None:
        return wanted == address
    name = name.removeprefix("*") if name.startswith("*.") else name
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _contains(rule: str, address: Address | None) -> bool:
    try:
        network = ip_network(rule, strict=False)
    except ValueError:
        return False
    return address is not None and address in network


def _split(rule: str) -> tuple[str, str]:
    """Host without brackets, and port (empty: any)."""
    if rule.startswith("["):
        host, _, port = rule[1:].partition("]")
        return host, port.removeprefix(":")
    if rule.count(":") == 1:
        host, _, port = rule.partition(":")
        return host, port
    return rule, ""


def _address(text: str) -> Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
