"""Defaults of a configuration: kube-proxy's, and those that depend on other fields.

`filled` is applied to a file's content before validation, as kube-proxy does; `completed` to every configuration before
it runs, so that what is validated, served at /configz and written by --write-config-to is the same.
"""

from __future__ import annotations

from ipaddress import IPv6Address

from msgspec import Struct, structs

from nodeagent.config import addresses
from nodeagent.config.schema import (
    HEALTHZ_PORT,
    METRICS_PORT,
    ZERO_IS_DEFAULT,
    KubeProxyConfiguration,
    replaced,
    value_at,
)

AUTO = "auto"  # in a configuration it is blank, kube-proxy's word for it
PRIMARY = "primary"


def filled(configuration: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """A file's configuration with defaults for empty and zero values, and ports for addresses without one."""
    default = KubeProxyConfiguration()
    for path in ZERO_IS_DEFAULT:
        if not value_at(configuration, path):
            configuration = replaced(configuration, path, value_at(default, path))
    healthz, metrics = _hosts(configuration.bind_address)
    return structs.replace(
        configuration,
        healthz_bind_address=addresses.with_port(configuration.healthz_bind_address or healthz, HEALTHZ_PORT),
        metrics_bind_address=addresses.with_port(configuration.metrics_bind_address or metrics, METRICS_PORT),
    )


def completed(configuration: KubeProxyConfiguration) -> KubeProxyConfiguration:
    """With the detector and, in nftables mode, the node port addresses that hold when none are named (B1).

    A blank mode means the best there is, and node ports answer as in nftables mode whichever that turns out to be.
    """
    mode = "" if configuration.mode == AUTO else configuration.mode
    primary = mode in ("nftables", "") and not configuration.node_port_addresses
    return structs.replace(
        configuration,
        mode=mode,
        detect_local_mode=configuration.detect_local_mode or "ClusterCIDR",
        node_port_addresses=(PRIMARY,) if primary else configuration.node_port_addresses,
    )


def default_text(path: str) -> str:
    """The default of a field, as its flag would be given it; empty where there is none to speak of."""
    value = value_at(completed(filled(KubeProxyConfiguration())), path)
    if isinstance(value, Struct) or value in ("", ()):
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(value) if isinstance(value, tuple) else str(value)


def _hosts(bind_address: str) -> tuple[str, str]:
    """Where health and metrics are served by default: everywhere and loopback, of the family of `bindAddress`."""
    try:
        six = isinstance(addresses.address(bind_address), IPv6Address)
    except ValueError:
        six = True  # as kube-proxy has it; validation refuses the address anyway
    return ("::", "::1") if six else ("0.0.0.0", "127.0.0.1")  # noqa: S104 - kube-proxy's documented default
