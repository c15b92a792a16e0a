"""Every flag of kube-proxy and every field of its file: what it means here, or why it does nothing.

The parser, the notes at start and docs/configuration.md are all made from `OPTIONS`.
"""

from __future__ import annotations

from typing import NamedTuple

from nodeagent.config.kinds import BOOL, DURATION, FLOAT, GATES, INT, IP, IP_PORT, LIST, TEXT, Kind

NO_API = "the agent never talks to the API server: the control plane does, with its own flags"
AT_ONCE = "a change goes to the kernel at once: there is no interval to wait for"
NO_FILES = "the agent gathers nothing about the machine"
ONE_FORMAT = "logs have one format, unbuffered, on standard error"
WINDOWS = "Windows only"
ANY: tuple[str, ...] = ()
IPTABLES, IPVS, NFTABLES, USERSPACE = ("iptables",), ("ipvs",), ("nftables",), ("userspace",)


class Option(NamedTuple):
    """`flag` is empty for what only a file can say, `path` (attribute names of the schema) for what only a flag can.

    `idle` is why it does nothing in any mode; `modes` are those it is for, none meaning all.
    """

    flag: str
    path: str
    kind: Kind
    text: str
    idle: str = ""
    modes: tuple[str, ...] = ANY


OPTIONS = (
    Option("hostname-override", "hostname_override", TEXT, "This node's name; default: the host name."),
    Option("bind-address", "bind_address", IP, "Taken for this node's primary address; nothing is bound to it."),
    Option("healthz-bind-address", "healthz_bind_address", IP_PORT, "/healthz and /livez; empty: none."),
    Option("metrics-bind-address", "metrics_bind_address", IP_PORT,
           "/metrics, /metrics/slis, /proxyMode, /configz; empty: none."),
    Option("bind-address-hard-fail", "bind_address_hard_fail", BOOL, "End when one of these cannot be bound."),
    Option("masquerade-all", "nftables.masquerade_all", BOOL,
           "Masquerade all traffic to ClusterIPs. The flag counts in every mode."),
    Option("", "iptables.masquerade_all", BOOL, "The same in the other modes.", modes=IPTABLES + IPVS),
    Option("", "nftables.masquerade_bit", INT, "The bit of the packet mark, 0 to 31.", modes=NFTABLES),
    Option("iptables-masquerade-bit", "iptables.masquerade_bit", INT, "The bit of the packet mark, 0 to 31.",
           modes=IPTABLES + IPVS),
    Option("detect-local-mode", "detect_local_mode", TEXT,
           "What tells pods from the rest: ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix."),
    Option("cluster-cidr", "cluster_cidr", TEXT, "The pods' addresses: a CIDR, or one of each family."),
    Option("pod-bridge-interface", "detect_local.bridge_interface", TEXT, "The pods' bridge."),
    Option("pod-interface-name-prefix", "detect_local.interface_name_prefix", TEXT,
           "What the names of the pods' interfaces begin with."),
    Option("nodeport-addresses", "node_port_addresses", LIST,
           "Where node ports answer: CIDRs, or primary (the default in nftables mode)."),
    Option("oom-score-adj", "oom_score_adj", INT, "The process's oom_score_adj, -1000 to 1000."),
    Option("conntrack-max-per-core", "conntrack.max_per_core", INT, "Tracked connections per core; 0: leave it."),
    Option("conntrack-min", "conntrack.min", INT, "The least limit of tracked connections."),
    Option("conntrack-tcp-timeout-established", "conntrack.tcp_established_timeout", DURATION,
           "Timeout of idle TCP connections; 0: leave."),
    Option("conntrack-tcp-timeout-close-wait", "conntrack.tcp_close_wait_timeout", DURATION,
           "Timeout of TCP connections in CLOSE_WAIT; 0: leave."),
    Option("conntrack-tcp-be-liberal", "conntrack.tcp_be_liberal", BOOL, "Track TCP packets outside the window too."),
    Option("conntrack-udp-timeout", "conntrack.udp_timeout", DURATION, "Timeout of unanswered UDP flows; 0: leave."),
    Option("conntrack-udp-timeout-stream", "conntrack.udp_stream_timeout", DURATION,
           "Timeout of answered UDP flows; 0: leave."),
    Option("iptables-sync-period", "iptables.sync_period", DURATION,
           "A change that is not in the kernel after twice this time makes /healthz fail; the flag counts in nftables "
           "mode too.", modes=IPTABLES + USERSPACE),
    Option("iptables-min-sync-period", "iptables.min_sync_period", DURATION,
           "The longest that changes gather after a restore before the next one: as long as they keep coming, they do "
           "so for twice the time that it took. What comes alone does not wait.", modes=IPTABLES + USERSPACE),
    Option("", "nftables.sync_period", DURATION, "The same in nftables mode.", modes=NFTABLES),
    Option("ipvs-sync-period", "ipvs.sync_period", DURATION, "The same in ipvs mode.", modes=IPVS),
    Option("iptables-localhost-nodeports", "iptables.localhost_node_ports", BOOL,
           "IPv4 node ports answer on loopback too.", modes=IPTABLES),
    Option("ipvs-scheduler", "ipvs.scheduler", TEXT,
           "Which endpoint is next: a scheduler of this kernel; empty: rr. Naming one lets `auto` take ipvs.",
           modes=IPVS),
    Option("ipvs-exclude-cidrs", "ipvs.exclude_cidrs", LIST, "Virtual servers to leave alone.", modes=IPVS),
    Option("ipvs-strict-arp", "ipvs.strict_arp", BOOL, "Answer ARP for addresses of the interface asked at only.",
           modes=IPVS),
    Option("ipvs-tcp-timeout", "ipvs.tcp_timeout", DURATION, "Timeout of idle TCP connections; 0: leave.", modes=IPVS),
    Option("ipvs-tcpfin-timeout", "ipvs.tcp_fin_timeout", DURATION, "Timeout after a FIN; 0: leave.", modes=IPVS),
    Option("ipvs-udp-timeout", "ipvs.udp_timeout", DURATION, "Timeout of UDP flows; 0: leave.", modes=IPVS),
    Option("udp-timeout", "udp_idle_timeout", DURATION,
           "A UDP client that was answered is forgotten after so long without a datagram; kube-proxy had this until "
           "1.25.", modes=USERSPACE),
    Option("v", "logging.verbosity", INT, "Log verbosity; 4 and up is debug."),
    # What follows does nothing, and says why.
    Option("", "nftables.min_sync_period", DURATION, "Least time between syncs.", AT_ONCE),
    Option("ipvs-min-sync-period", "ipvs.min_sync_period", DURATION, "Least time between syncs.", AT_ONCE),
    Option("config-sync-period", "config_sync_period", DURATION, "Interval of complete lists.",
           "nothing is listed again and again: digests of the whole state are compared with every change"),
    Option("feature-gates", "feature_gates", GATES, "Features to switch.", "there are no feature gates"),
    Option("kubeconfig", "client_connection.kubeconfig", TEXT, "How to reach the API server.", NO_API),
    Option("master", "", TEXT, "The API server's address.", NO_API),
    Option("kube-api-content-type", "client_connection.content_type", TEXT, "Encoding of requests.", NO_API),
    Option("", "client_connection.accept_content_types", TEXT, "Encoding of answers.", NO_API),
    Option("kube-api-qps", "client_connection.qps", FLOAT, "Requests per second.", NO_API),
    Option("kube-api-burst", "client_connection.burst", INT, "Requests in a burst.", NO_API),
    Option("profiling", "enable_profiling", BOOL, "/debug/pprof.", "that is Go's profiler"),
    Option("show-hidden-metrics-for-version", "show_hidden_metrics_for_version", TEXT, "Deprecated metrics to show.",
           "no metric is hidden"),
    Option("vmodule", "logging.vmodule", TEXT, "Verbosity per source file.", "verbosity is one for the program"),
    Option("logging-format", "logging.format", TEXT, "text or json.", ONE_FORMAT),
    Option("log-flush-frequency", "logging.flush_frequency", DURATION, "Time between flushes.", ONE_FORMAT),
    Option("log-text-split-stream", "logging.options.text.split_stream", BOOL, "Two streams.", ONE_FORMAT),
    Option("log-text-info-buffer-size", "logging.options.text.info_buffer_size", TEXT, "Buffer.", ONE_FORMAT),
    Option("log-json-split-stream", "logging.options.json.split_stream", BOOL, "Two streams.", ONE_FORMAT),
    Option("log-json-info-buffer-size", "logging.options.json.info_buffer_size", TEXT, "Buffer.", ONE_FORMAT),
    Option("boot-id-file", "", TEXT, "Files with the boot's id.", NO_FILES),
    Option("machine-id-file", "", TEXT, "Files with the machine's id.", NO_FILES),
    Option("", "port_range", TEXT, "Ports of the userspace mode.", "kube-proxy ignores it too"),
    Option("", "windows_run_as_service", BOOL, "Run as a service.", WINDOWS),
    Option("", "winkernel", TEXT, "Everything in it.", WINDOWS),
)  # fmt: skip

PORTS = {"healthz-port": "healthz_bind_address", "metrics-port": "metrics_bind_address"}
"""Deprecated flags: the port of the address at this path where it names none; 0 switches it off."""
