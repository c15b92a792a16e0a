"""The command line as a whole: what counts, what is ignored, what is refused, and what is noted."""

from __future__ import annotations

from typing import Any

import pytest

from deltaplane.flags import UsageError
from nodeagent.config import AgentSettings, Detector, Task, in_mode, parse
from nodeagent.config.durations import of
from nodeagent.dataplane.userspace.settings import Settings as UserspaceSettings

RUN = ["--server=127.0.0.1:50051", "--insecure"]


def refusal(*arguments: str) -> str:
    with pytest.raises(UsageError) as raised:
        parse(arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_the_defaults() -> None:
    settings = parse([*RUN, "--hostname-override= Node-A "])

    assert settings.task is Task.RUN
    assert settings.servers == ("127.0.0.1:50051",)
    assert settings.node_name == "node-a"
    assert settings.proxy_mode == "auto"
    assert settings.detector is Detector.CLUSTER_CIDR
    assert settings.node_port_addresses == ("primary",)
    assert (settings.healthz_address, settings.metrics_address) == ("0.0.0.0:10256", "127.0.0.1:10249")
    assert settings.bind_address is None
    assert settings.masquerade_bit == 14
    assert settings.sync_period == of(seconds=30)
    assert settings.oom_score_adj == -999
    assert settings.notes == ()


def field(name: str) -> Any:
    return lambda settings: getattr(settings, name)


@pytest.mark.parametrize(
    "flag, read, value",
    [
        ("--cluster-cidr=10.0.0.1/8,fd00::1/64", field("cluster_cidrs"), ("10.0.0.0/8", "fd00::/64")),
        ("--masquerade-all", field("masquerade_all"), True),
        ("--masquerade_all=true", field("masquerade_all"), True),
        ("--masquerade-all=false", field("masquerade_all"), False),
        ("--nodeport-addresses=010.0.0.0/8,fd00::/8", field("node_port_addresses"), ("10.0.0.0/8", "fd00::/8")),
        ("--bind-address=10.0.0.1", field("bind_address"), "10.0.0.1"),
        ("--bind-address=::", field("bind_address"), None),
        ("--healthz-bind-address=10.0.0.1", field("healthz_address"), "10.0.0.1:10256"),
        ("--healthz-bind-address=[::1]:80", field("healthz_address"), "[::1]:80"),
        ("--healthz-bind-address=", field("healthz_address"), None),
        ("--metrics-bind-address=::1", field("metrics_address"), "[::1]:10249"),
        ("--metrics-bind-address=", field("metrics_address"), None),
        ("--metrics-port=0", field("metrics_address"), None),
        ("--bind-address-hard-fail", field("bind_address_hard_fail"), True),
        ("--oom-score-adj=-500", field("oom_score_adj"), -500),
        ("--iptables-sync-period=5s", field("sync_period"), of(seconds=5)),
        ("--conntrack-min=0x10", lambda settings: settings.conntrack.min, 16),
        ("--conntrack-udp-timeout=1m", lambda settings: settings.conntrack.udp_timeout, of(minutes=1)),
        ("--conntrack-tcp-be-liberal", lambda settings: settings.conntrack.tcp_be_liberal, True),
        ("--v=5", field("verbosity"), 5),
        ("-v=5", field("verbosity"), 5),
        ("-v5", field("verbosity"), 5),
        ("--state-dir=/x", field("state_dir"), "/x"),
        ("--state-max-age=1h30m", field("state_max_age"), 5400.0),
        ("--state-max-age=0", field("state_max_age"), 0.0),
        ("--health-listen=[::]:1", field("health_listen"), "[::]:1"),
        ("--inspect-socket=unix:///run/a.sock", field("inspect_socket"), "unix:///run/a.sock"),
    ],
)
def test_flags_that_mean_something(flag: str, read: Any, value: object) -> None:
    settings = in_mode(parse([*RUN, flag]), "nftables")

    assert read(settings) == value
    assert [note for note in settings.notes if "does nothing" in note] == []


@pytest.mark.parametrize(
    "flag, read, value",
    [
        ("--udp-timeout=2s", field("udp_idle_seconds"), 2.0),
        ("--userspace-max-connections=100", field("max_connections"), 100),
        ("--userspace-max-udp-clients=200", field("max_udp_clients"), 200),
    ],
)
def test_flags_of_userspace_mode(flag: str, read: Any, value: object) -> None:
    settings = parse([*RUN, flag])

    assert read(in_mode(settings, "userspace")) == value
    assert settings.notes == in_mode(settings, "userspace").notes == ()
    (note,) = in_mode(settings, "nftables").notes
    assert note == f"{flag.partition('=')[0]}: does nothing: it is for mode userspace, and the mode is nftables"


def test_the_limits_of_userspace_mode_by_default() -> None:
    settings = parse(RUN)

    assert (settings.udp_idle_seconds, settings.max_connections, settings.max_udp_clients) == (0.25, None, None)


def test_a_list_is_gathered_from_every_occurrence() -> None:
    settings = parse([*RUN, "--nodeport-addresses=10.0.0.0/8", "--nodeport-addresses=11.0.0.0/8,12.0.0.0/8"])

    assert settings.node_port_addresses == ("10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8")


def test_a_port_is_added_where_an_address_has_none() -> None:
    assert parse([*RUN, "--healthz-bind-address=10.0.0.1", "--healthz-port=99"]).healthz_address == "10.0.0.1:99"


@pytest.mark.parametrize(
    "arguments, mode, detail",
    [
        (["--detect-local-mode=NodeCIDR", "--cluster-cidr=10.0.0.0/8"], Detector.NODE_CIDR, ""),
        (["--detect-local-mode=BridgeInterface", "--pod-bridge-interface=br0"], Detector.BRIDGE, "br0"),
        (["--detect-local-mode=InterfaceNamePrefix", "--pod-interface-name-prefix=veth"], Detector.PREFIX, "veth"),
    ],
)
def test_detectors(arguments: list[str], mode: Detector, detail: str) -> None:
    settings = parse([*RUN, *arguments])

    assert (settings.detector, settings.cluster_cidrs) == (mode, ())
    assert settings.bridge_interface + settings.interface_name_prefix == detail


@pytest.mark.parametrize(
    "flag",
    [
        "--kubeconfig=/x", "--master=https://x", "--kube-api-qps=5", "--kube-api-burst=7", "--kube-api-content-type=x",
        "--feature-gates=A=true,B=false", "--profiling", "--show-hidden-metrics-for-version=1.35", "--vmodule=a=3",
        "--config-sync-period=5m", "--iptables-min-sync-period=2s", "--ipvs-min-sync-period=0s", "--ipvs-strict-arp",
        "--iptables-localhost-nodeports=false", "--ipvs-scheduler=lc", "--ipvs-exclude-cidrs=10.0.0.0/8",
        "--ipvs-tcp-timeout=1s", "--ipvs-tcpfin-timeout=1s", "--ipvs-udp-timeout=1s", "--ipvs-sync-period=1s",
        "--iptables-masquerade-bit=3", "--logging-format=json", "--log-flush-frequency=1s", "--boot-id-file=/x",
        "--machine-id-file=/x", "--log-json-info-buffer-size=1Ki", "--log-text-split-stream",
    ],
)  # fmt: skip
def test_flags_that_do_nothing_say_why(flag: str) -> None:
    (note,) = in_mode(parse([*RUN, flag]), "nftables").notes

    assert note.startswith(f"{flag.partition('=')[0]}: does nothing: ")


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ([], "--server is required"),
        (["--server=a:1"], "--server-ca-file=FILE is missing, for TLS; instead of it: --insecure"),
        (["--server=unix:///run/d,a:1"], "--server-ca-file=FILE is missing"),
        (["--server=unix:relative"], "a unix socket is unix:///PATH"),
        ([f"--server=unix:///{'a' * 107}"], "the path of a unix socket has at most 107 bytes"),
        (["--server=a:1", "--server-ca-file=f", "--tls-cert-file=f"], "go together"),
        (["--server=a:1", "--server-ca-file=f"], "--token-file=FILE is missing, which proves what node this is"),
        ([*RUN, "--token-file=f"], "--token-file: not with --insecure"),
        ([*RUN, "--server-ca-file=f"], "--server-ca-file: not with --insecure, which is plain text"),
        ([*RUN, "--tls-cert-file=f", "--server-name=n"], "--tls-cert-file and --server-name: not with --insecure"),
        (["--server=a"], "'a' is not HOST:PORT"),
        (["--nonsense"], "unrecognized arguments: --nonsense"),
        (["--hostname=x"], "unrecognized arguments"),
        ([*RUN, "--hostname-override=  "], "--hostname-override: only blanks"),
        ([*RUN, "--ipvs-scheduler=lc", "--ipvs-exclude-cidrs=x"], "ExcludeCidrs[0]"),
        ([*RUN, "--proxy-mode=x"], 'KubeProxyConfiguration.Mode.ProxyMode: Invalid value: "x"'),
        ([*RUN, "--oom-score-adj=x"], "'x' is not a whole number"),
        ([*RUN, "--oom-score-adj=3000000000"], "3000000000 does not fit 32 bits"),
        ([*RUN, "--oom-score-adj=1001"], "OOMScoreAdj: Invalid value: 1001"),
        ([*RUN, "--conntrack-udp-timeout=5"], "'5' is not a duration"),
        (
            [*RUN, "--udp-timeout=0s"],
            'KubeProxyConfiguration.UDPIdleTimeout: Invalid value: "0s": must be greater than 0',
        ),
        ([*RUN, "--userspace-max-connections=0"], "--userspace-max-connections=0: must be greater than 0"),
        ([*RUN, "--userspace-max-udp-clients=-1"], "--userspace-max-udp-clients=-1: must be greater than 0"),
        ([*RUN, "--userspace-max-connections=many"], "'many' is not a whole number"),
        ([*RUN, "--config-sync-period=0s"], 'ConfigSyncPeriod: Invalid value: "0s": must be greater than 0'),
        ([*RUN, "--bind-address=x"], "'x' is not an IP address"),
        ([*RUN, "--healthz-bind-address=x:1"], "'x' is not an IP address"),
        ([*RUN, "--healthz-bind-address=1.2.3.4:http"], "'http' is not a port"),
        ([*RUN, "--masquerade-all=perhaps"], "'perhaps' is not true or false"),
        ([*RUN, "--kube-api-qps=x"], "'x' is not a number"),
        ([*RUN, "--feature-gates=A"], "'' is not true or false"),
        ([*RUN, "--v=-1"], "logging.verbosity"),
        ([*RUN, "--config=/does/not/exist"], "--config=/does/not/exist: No such file or directory"),
    ],
)
def test_what_is_refused(arguments: list[str], reason: str) -> None:
    message = refusal(*arguments)

    assert message.startswith("deltaplane agent: ")
    assert reason in message


@pytest.mark.parametrize(
    "arguments, task",
    [
        (["--cleanup"], Task.CLEANUP),
        (["--init-only"], Task.INIT),
        (["--write-config-to=/x", "--cleanup", "--init-only"], Task.WRITE_CONFIG),
        (["--cleanup", "--init-only", "--proxy-mode=ipvs"], Task.CLEANUP),
        ([*RUN, "--cleanup=false"], Task.RUN),
    ],
)
def test_tasks_other_than_running_need_no_server(arguments: list[str], task: Task) -> None:
    assert parse(arguments).task is task


@pytest.mark.parametrize("flag", ["--help", "--version"])
def test_help_and_version_end_well(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse([flag])

    assert ended.value.code == 0
    assert "deltaplane" in capsys.readouterr().out


def test_the_help_says_the_default_of_each_flag_that_has_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    usual = UserspaceSettings()
    for default in (f"{usual.max_connections})", f"{usual.max_flows})", "10s)", "24h0m0s)", "0.0.0.0:10256)", "10249)"):
        assert f"(default: {default}" in said
    assert "0 to 31 (default: 14)" in said
    assert "(default: )" not in said


def test_settings_say_what_the_first_line_of_the_agent_reads() -> None:
    """The names that the rest of the agent relies on."""
    names = {"servers", "node_name", "proxy_mode", "cluster_cidrs", "state_dir", "health_listen", "verbosity"}

    assert names <= set(AgentSettings.__dataclass_fields__)


def test_what_belongs_to_a_mode_counts_in_it_alone() -> None:
    asked = parse([*RUN, "--iptables-masquerade-bit=3", "--ipvs-scheduler=lc", "--iptables-sync-period=5s"])

    assert (asked.proxy_mode, asked.notes) == ("auto", ())
    ipvs = in_mode(asked, "ipvs")
    assert (ipvs.proxy_mode, ipvs.masquerade_bit, ipvs.sync_period) == ("ipvs", 3, of(seconds=30))
    assert [note.partition(":")[0] for note in ipvs.notes] == ["--iptables-sync-period"]
    nftables = in_mode(asked, "nftables")
    assert (nftables.masquerade_bit, nftables.sync_period) == (14, of(seconds=5))
    assert {note.partition(":")[0] for note in nftables.notes} == {"--iptables-masquerade-bit", "--ipvs-scheduler"}


@pytest.mark.parametrize(
    "flags, addresses",
    [([], ("primary",)), (["--proxy-mode=auto"], ("primary",)), (["--proxy-mode="], ("primary",)),
     (["--proxy-mode=nftables"], ("primary",)), (["--proxy-mode=iptables"], ()), (["--proxy-mode=userspace"], ())],
)  # fmt: skip
def test_another_kernel_dialect_opens_no_more_node_ports(flags: list[str], addresses: tuple[str, ...]) -> None:
    settings = parse([*RUN, *flags])

    assert settings.node_port_addresses == addresses
    assert in_mode(settings, "iptables").node_port_addresses == addresses


def test_strict_mode() -> None:
    assert parse([*RUN, "--strict-mode"]).strict_mode
    assert not parse(RUN).strict_mode
