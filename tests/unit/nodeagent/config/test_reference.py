"""Every flag of kube-proxy and every field of its file is accounted for, and the page says what the table says."""

from __future__ import annotations

from pathlib import Path

from msgspec import Struct

from nodeagent.config.options import OPTIONS, PORTS
from nodeagent.config.reference import markdown
from nodeagent.config.schema import KubeProxyConfiguration, value_at

PAGE = Path(__file__).parents[4] / "docs" / "configuration.md"

KUBE_PROXY = """
bind-address bind-address-hard-fail boot-id-file cleanup cluster-cidr config config-sync-period conntrack-max-per-core
conntrack-min conntrack-tcp-be-liberal conntrack-tcp-timeout-close-wait conntrack-tcp-timeout-established
conntrack-udp-timeout conntrack-udp-timeout-stream detect-local-mode feature-gates healthz-bind-address healthz-port
hostname-override init-only iptables-localhost-nodeports iptables-masquerade-bit iptables-min-sync-period
iptables-sync-period ipvs-exclude-cidrs ipvs-min-sync-period ipvs-scheduler ipvs-strict-arp ipvs-sync-period
ipvs-tcp-timeout ipvs-tcpfin-timeout ipvs-udp-timeout kube-api-burst kube-api-content-type kube-api-qps kubeconfig
log-flush-frequency log-json-info-buffer-size log-json-split-stream log-text-info-buffer-size log-text-split-stream
logging-format machine-id-file masquerade-all master metrics-bind-address metrics-port nodeport-addresses oom-score-adj
pod-bridge-interface pod-interface-name-prefix profiling proxy-mode show-hidden-metrics-for-version v version vmodule
write-config-to
"""
EARLIER = {"udp-timeout"}  # kube-proxy's until 1.25
OWN = {"config", "write-config-to", "cleanup", "init-only", "version", "proxy-mode"}


def leaves(section: Struct, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for name in section.__struct_fields__:
        value = getattr(section, name)
        found |= leaves(value, f"{prefix}{name}.") if isinstance(value, Struct) else {prefix + name}
    return found


def test_every_flag_of_kube_proxy_is_taken() -> None:
    taken = {option.flag for option in OPTIONS if option.flag} | set(PORTS) | OWN

    assert taken == set(KUBE_PROXY.split()) | EARLIER


def test_every_field_has_a_row() -> None:
    rows = {option.path for option in OPTIONS}
    fields = leaves(KubeProxyConfiguration()) - {"api_version", "kind", "mode"}

    assert {field for field in fields if field not in rows and field.partition(".")[0] not in rows} == set()
    assert all(value_at(KubeProxyConfiguration(), path) is not None for path in rows if path)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == markdown(), "run: python -m nodeagent.config.reference > docs/configuration.md"
