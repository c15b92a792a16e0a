"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) as frozen values, each field with kube-proxy's default.

`document` reads and writes them, `validation` judges them, `options` says what each is good for. A field whose zero
means "take the default" stands in `ZERO_IS_DEFAULT`; the others keep a zero that is written down.
"""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

from msgspec import Meta, Struct, field, structs

from nodeagent.config.durations import Duration, LogDuration, of

GROUP = "kubeproxy.config.k8s.io"
API_VERSION = f"{GROUP}/v1alpha1"
KIND = "KubeProxyConfiguration"
HEALTHZ_PORT, METRICS_PORT = 10256, 10249

Int32 = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
UInt32 = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Config = TypeVar("Config", bound=Struct)
ZERO = Duration(0)
SYNC_PERIOD, SECOND = of(seconds=30), of(seconds=1)
UDP_IDLE = Duration(250_000_000)


class Section(Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """A mapping of the file: names in camel case, unknown ones refused."""


class ClientConnection(Section, frozen=True):
    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5
    burst: Int32 = 10


class Iptables(Section, frozen=True):
    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Duration = SYNC_PERIOD
    min_sync_period: Duration = SECOND


class Ipvs(Section, frozen=True):
    sync_period: Duration = SYNC_PERIOD
    min_sync_period: Duration = ZERO
    scheduler: str = ""
    exclude_cidrs: tuple[str, ...] = field(default=(), name="excludeCIDRs")
    strict_arp: bool = field(default=False, name="strictARP")
    tcp_timeout: Duration = ZERO
    tcp_fin_timeout: Duration = ZERO
    udp_timeout: Duration = ZERO


class Nftables(Section, frozen=True):
    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    sync_period: Duration = SYNC_PERIOD
    min_sync_period: Duration = SECOND


class Conntrack(Section, frozen=True):
    """Limits and timeouts of connection tracking; 0 leaves the kernel's value (J8)."""

    max_per_core: Int32 = 32 * 1024
    min: Int32 = 128 * 1024
    tcp_established_timeout: Duration = of(hours=24)
    tcp_close_wait_timeout: Duration = of(hours=1)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = ZERO
    udp_stream_timeout: Duration = ZERO


class DetectLocal(Section, frozen=True):
    bridge_interface: str = ""
    interface_name_prefix: str = ""


class Winkernel(Section, frozen=True):
    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = field(default=False, name="enableDSR")
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class VmoduleItem(Section, frozen=True):
    file_pattern: str = ""
    verbosity: UInt32 = 0


class LogOutput(Section, frozen=True):
    split_stream: bool = False
    info_buffer_size: int | str = "0"  # a quantity, such as 64Ki


class LogFormats(Section, frozen=True):
    text: LogOutput = LogOutput()
    json: LogOutput = LogOutput()


class Logging(Section, frozen=True):
    format: str = "text"
    flush_frequency: LogDuration = LogDuration(of(seconds=5))
    verbosity: UInt32 = 0
    vmodule: tuple[VmoduleItem, ...] = ()
    options: LogFormats = LogFormats()


class KubeProxyConfiguration(Section, frozen=True):
    """The whole file. Empty addresses mean the default, which depends on the family of `bind_address`.

    `udp_idle_timeout` is of userspace mode; kube-proxy had it for as long as it had that, until 1.25.
    """

    api_version: str = API_VERSION
    kind: str = KIND
    feature_gates: dict[str, bool] = field(default_factory=dict)
    client_connection: ClientConnection = ClientConnection()
    logging: Logging = Logging()
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"  # noqa: S104 - overrides the node's primary address; nothing is bound to it
    healthz_bind_address: str = ""
    metrics_bind_address: str = ""
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: Iptables = Iptables()
    ipvs: Ipvs = Ipvs()
    nftables: Nftables = Nftables()
    winkernel: Winkernel = Winkernel()
    detect_local_mode: str = ""
    detect_local: DetectLocal = DetectLocal()
    cluster_cidr: str = field(default="", name="clusterCIDR")
    node_port_addresses: tuple[str, ...] = ()
    oom_score_adj: Int32 = -999
    conntrack: Conntrack = Conntrack()
    config_sync_period: Duration = of(minutes=15)
    udp_idle_timeout: Duration = UDP_IDLE
    port_range: str = ""
    windows_run_as_service: bool = False


ZERO_IS_DEFAULT = (
    "bind_address", "config_sync_period", "iptables.sync_period", "iptables.min_sync_period", "ipvs.sync_period",
    "nftables.sync_period", "nftables.min_sync_period", "client_connection.content_type", "client_connection.qps",
    "client_connection.burst", "logging.format", "logging.flush_frequency", "udp_idle_timeout",
)  # fmt: skip


def value_at(configuration: Struct, path: str) -> Any:
    """The value of a dotted path of attribute names, such as "conntrack.min"."""
    value: Any = configuration
    for name in path.split("."):
        value = getattr(value, name)
    return value


def replaced(configuration: Config, path: str, value: object) -> Config:
    """The configuration with another value at a dotted path."""
    name, _, rest = path.partition(".")
    if rest:
        value = replaced(getattr(configuration, name), rest, value)
    return structs.replace(configuration, **{name: value})


def file_path(path: str) -> str:
    """A dotted path in the file's own names: "cluster_cidr" is clusterCIDR."""
    section: Any = KubeProxyConfiguration()
    names: list[str] = []
    for name in path.split("."):
        names.append(section.__struct_encode_fields__[section.__struct_fields__.index(name)])
        section = getattr(section, name)
    return ".".join(names)
