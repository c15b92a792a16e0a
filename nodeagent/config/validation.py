"""What kube-proxy refuses in a configuration, in its own order and words, so that its documentation stays true here.

Paths are upstream's, which are those of its types and not of the file: `Min` of conntrack is
KubeProxyConfiguration.KubeProxyLinuxConfiguration.KubeProxyConntrackConfiguration.Min. Pure; called by `parse`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from nodeagent.config import addresses
from nodeagent.config.defaults import PRIMARY
from nodeagent.config.durations import Duration
from nodeagent.config.schema import Conntrack, Iptables, Ipvs, KubeProxyConfiguration, Logging, Nftables

MODES = ("iptables", "ipvs", "nftables", "userspace")
DETECTORS = ("ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix")
ROOT = "KubeProxyConfiguration"
LINUX = f"{ROOT}.KubeProxyLinuxConfiguration"
NOT_NEGATIVE = "must be greater than or equal to 0"
PAIR = "must be a either a single CIDR or dual-stack pair of CIDRs (e.g. [10.100.0.0/16, fde4:8dba:82e1::/48]"
CIDR_BLOCK = "must be a valid CIDR block (e.g. 10.100.0.0/16 or fde4:8dba:82e1::/48)"
MOST = 2**31 - 1


def problems(config: KubeProxyConfiguration) -> list[str]:
    """Everything that is wrong with a completed configuration; empty: nothing."""
    return [
        *_mode_sections(config),
        *_conntrack(config.conntrack, f"{LINUX}.KubeProxyConntrackConfiguration"),
        *_within(config.oom_score_adj, -1000, 1000, f"{LINUX}.OOMScoreAdj"),
        *_mode(config.mode),
        *_at_least_0(config.client_connection.burst, f"{ROOT}.ClientConnection.Burst"),
        *_periods(config),
        *_positive(config.udp_idle_timeout, f"{ROOT}.UDPIdleTimeout"),
        *_address(config.bind_address, f"{ROOT}.BindAddress"),
        *_listeners(config),
        *_node_port_addresses(config.node_port_addresses),
        *_detector(config),
        *_logging(config.logging),
    ]


def _invalid(path: str, value: object, detail: str) -> str:
    text = str(value) if isinstance(value, Duration) else value
    return f"{path}: Invalid value: {json.dumps(text, ensure_ascii=False, separators=(',', ':'))}: {detail}"


def _within(value: int, low: int, high: int, path: str) -> Iterator[str]:
    if not low <= value <= high:
        yield _invalid(path, value, f"must be within the range [{low}, {high}]")


def _at_least_0(value: int, path: str) -> Iterator[str]:
    if value < 0:
        yield _invalid(path, value, NOT_NEGATIVE)


def _positive(value: int, path: str) -> Iterator[str]:
    if value <= 0:
        yield _invalid(path, value, "must be greater than 0")


def _mode_sections(config: KubeProxyConfiguration) -> Iterator[str]:
    """iptables' bit is always judged, for ipvs takes it too; the other sections only in their own mode."""
    yield from _within(config.iptables.masquerade_bit, 0, 31, f"{ROOT}.KubeProxyIPTablesConfiguration.MasqueradeBit")
    if config.mode == "ipvs" or config.ipvs.scheduler:  # a scheduler lets the best-available mode be ipvs
        yield from _ipvs(config.ipvs, f"{ROOT}.KubeProxyIPVSConfiguration")
    if config.mode in ("nftables", ""):
        path = f"{ROOT}.KubeProxyNFTablesConfiguration.MasqueradeBit"
        yield from _within(config.nftables.masquerade_bit, 0, 31, path)


def _ipvs(ipvs: Ipvs, path: str) -> Iterator[str]:
    yield from _at_least_0(ipvs.tcp_timeout, f"{path}.TCPTimeout")
    yield from _at_least_0(ipvs.tcp_fin_timeout, f"{path}.TCPFinTimeout")
    yield from _at_least_0(ipvs.udp_timeout, f"{path}.UDPTimeout")
    yield from _cidrs(ipvs.exclude_cidrs, f"{path}.ExcludeCidrs", "must be a valid CIDR")


def _conntrack(conntrack: Conntrack, path: str) -> Iterator[str]:
    yield from _at_least_0(conntrack.max_per_core, f"{path}.MaxPerCore")
    yield from _at_least_0(conntrack.min, f"{path}.Min")
    yield from _at_least_0(conntrack.tcp_established_timeout, f"{path}.TCPEstablishedTimeout")
    yield from _at_least_0(conntrack.tcp_close_wait_timeout, f"{path}.TCPCloseWaitTimeout")
    yield from _at_least_0(conntrack.udp_timeout, f"{path}.UDPTimeout")
    yield from _at_least_0(conntrack.udp_stream_timeout, f"{path}.UDPStreamTimeout")


def _mode(mode: str) -> Iterator[str]:
    if mode and mode not in MODES:
        detail = f"must be {', '.join(MODES)}, auto or blank (both: the best-available proxy, nftables first)"
        yield _invalid(f"{ROOT}.Mode.ProxyMode", mode, detail)


def periods(config: KubeProxyConfiguration) -> tuple[Duration, Duration]:
    """The sync period and its minimum of the mode, blank being nftables until another is chosen."""
    nftables = config.nftables
    sections: dict[str, Iptables | Ipvs | Nftables] = {"ipvs": config.ipvs, "nftables": nftables, "": nftables}
    section = sections.get(config.mode, config.iptables)
    return section.sync_period, section.min_sync_period


def _periods(config: KubeProxyConfiguration) -> Iterator[str]:
    yield from _positive(config.config_sync_period, f"{ROOT}.ConfigSyncPeriod")
    period, least = periods(config)
    yield from _positive(period, f"{ROOT}.SyncPeriod")
    yield from _at_least_0(least, f"{ROOT}.MinSyncPeriod")
    if least > period:
        yield _invalid(f"{ROOT}.SyncPeriod", least, f"must be greater than or equal to {ROOT}.MinSyncPeriod")


def _is(parse: Callable[[str], object], text: str) -> bool:
    try:
        parse(text)
    except ValueError:
        return False
    return True


def _address(text: str, path: str) -> Iterator[str]:
    if not _is(addresses.address, text):
        yield _invalid(path, text, "not a valid textual representation of an IP address")


def _listeners(config: KubeProxyConfiguration) -> Iterator[str]:
    """Empty is allowed for both: it switches the listener off, as kube-proxy documents it for its flags."""
    if config.healthz_bind_address:
        yield from _host_port(config.healthz_bind_address, f"{ROOT}.HealthzBindAddress")
    if config.metrics_bind_address:
        yield from _host_port(config.metrics_bind_address, f"{ROOT}.MetricsBindAddress")


def _host_port(text: str, path: str) -> Iterator[str]:
    try:
        host, port = addresses.split_host_port(text)
    except ValueError:
        yield _invalid(path, text, "must be IP:port")
        return
    if not _is(addresses.address, host):
        yield _invalid(path, host, "must be a valid IP")
    if not (port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535):
        yield _invalid(path, port, "must be a valid port")


def _cidrs(texts: Sequence[str], path: str, detail: str) -> Iterator[str]:
    for index, text in enumerate(texts):
        if not _is(addresses.network, text):
            yield _invalid(f"{path}[{index}]", text, detail)


def _node_port_addresses(texts: Sequence[str]) -> Iterator[str]:
    path = f"{ROOT}.NodePortAddresses"
    if PRIMARY not in texts:
        yield from _cidrs(texts, path, "must be a valid CIDR")
        return
    index = texts.index(PRIMARY)
    yield from _cidrs(texts[:index], path, "must be a valid CIDR")
    if len(texts) != 1:
        yield _invalid(f"{path}[{index}]", PRIMARY, "can't use both 'primary' and CIDRs")


def _detector(config: KubeProxyConfiguration) -> Iterator[str]:
    path = f"{ROOT}.DetectLocalConfiguration"
    mode = config.detect_local_mode
    if mode not in DETECTORS:
        supported = ", ".join(json.dumps(name) for name in (*DETECTORS, ""))
        yield f"{ROOT}.DetectLocalMode: Unsupported value: {json.dumps(mode)}: supported values: {supported}"
    elif mode == "BridgeInterface" and not config.detect_local.bridge_interface:
        yield _invalid(f"{path}.InterfaceName", "", "must not be empty")
    elif mode == "InterfaceNamePrefix" and not config.detect_local.interface_name_prefix:
        yield _invalid(f"{path}.InterfacePrefix", "", "must not be empty")
    elif mode == "ClusterCIDR" and config.cluster_cidr:
        yield from _cluster_cidrs(config.cluster_cidr.split(","), f"{path}.ClusterCIDRs")


def _cluster_cidrs(texts: list[str], path: str) -> Iterator[str]:
    """One CIDR, or one of each family."""
    wrong = list(_cidrs(texts, path, CIDR_BLOCK))
    if len(texts) > 2:
        yield _invalid(path, texts, PAIR)
    elif wrong:
        yield from wrong
    elif len({addresses.network(text).version for text in texts}) != len(texts):
        yield _invalid(path, texts, PAIR)


def _logging(logging: Logging) -> Iterator[str]:
    path = "logging"  # kube-proxy judges this part on its own
    if logging.flush_frequency <= 0:
        yield _invalid(f"{path}.flushFrequency", logging.flush_frequency, "Must be greater than zero")
    if logging.format not in ("text", "json"):
        yield _invalid(f"{path}.format", logging.format, "Unsupported log format")
    if not 0 <= logging.verbosity <= MOST:
        yield _invalid(f"{path}.verbosity", logging.verbosity, f"Must be <= {MOST}")
