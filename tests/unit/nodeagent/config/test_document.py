"""The file: what is read, what is refused and where it says the mistake is, and what is written is read back."""

from __future__ import annotations

import pytest
from msgspec import structs

from nodeagent.config.defaults import completed, filled
from nodeagent.config.document import Unreadable, dump, load, plain
from nodeagent.config.durations import of
from nodeagent.config.schema import UDP_IDLE, Conntrack, Iptables, KubeProxyConfiguration

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"

KUBEADM = """
bindAddress: 0.0.0.0
bindAddressHardFail: false
clientConnection:
  acceptContentTypes: ""
  burst: 0
  contentType: ""
  kubeconfig: /var/lib/kube-proxy/kubeconfig.conf
  qps: 0
clusterCIDR: 10.244.0.0/16
configSyncPeriod: 0s
conntrack: {maxPerCore: null, min: null, tcpBeLiberal: false, tcpCloseWaitTimeout: null, tcpEstablishedTimeout: null}
detectLocal: {bridgeInterface: "", interfaceNamePrefix: ""}
detectLocalMode: ""
enableProfiling: false
healthzBindAddress: ""
hostnameOverride: ""
iptables: {localhostNodePorts: null, masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
logging:
  flushFrequency: 0
  options:
    json: {infoBufferSize: "0"}
  verbosity: 0
metricsBindAddress: ""
mode: ""
nftables: {masqueradeAll: false, masqueradeBit: null, minSyncPeriod: 0s, syncPeriod: 0s}
nodePortAddresses: null
oomScoreAdj: null
portRange: ""
"""


def read(text: str) -> KubeProxyConfiguration:
    return load(HEAD + text)[0]


def test_a_file_as_an_installer_writes_it_says_nothing_but_the_defaults() -> None:
    config = filled(read(KUBEADM))

    said = structs.replace(
        config, cluster_cidr="", client_connection=structs.replace(config.client_connection, kubeconfig="")
    )
    assert said == filled(KubeProxyConfiguration())


def test_a_json_file_is_read() -> None:
    config = load('{"apiVersion":"kubeproxy.config.k8s.io/v1alpha1","kind":"KubeProxyConfiguration","mode":"ipvs"}')[0]

    assert config.mode == "ipvs"


def test_what_is_written_down_stands() -> None:
    config = filled(read("iptables: {masqueradeBit: 0, syncPeriod: 1m}\nconntrack: {min: 0}\noomScoreAdj: 0\n"))

    assert config.iptables == Iptables(masquerade_bit=0, sync_period=of(minutes=1))
    assert config.conntrack == Conntrack(min=0)
    assert config.oom_score_adj == 0


@pytest.mark.parametrize(
    "text, message",
    [
        ("conntrack: {min: a}", "conntrack.min: expected `int`, got `str`"),
        ("conntrack: 5", "conntrack: expected `object`, got `int`"),
        ("nodePortAddresses: [1]", "nodePortAddresses[0]: expected `str`, got `int`"),
        ("nodePortAddresses: primary", "nodePortAddresses: expected `array`, got `str`"),
        ("hostnameOverride: 12", "hostnameOverride: expected `str`, got `int`"),
        ("enableProfiling: 1", "enableProfiling: expected `bool`, got `int`"),
        ("configSyncPeriod: 5", "configSyncPeriod: expected a duration such as `30s`, got `int`"),
        ("configSyncPeriod: 5q", "configSyncPeriod: '5q' is not a duration such as 30s or 1h30m"),
        ("oomScoreAdj: 5000000000", "oomScoreAdj: expected `int` <= 2147483647"),
    ],
)
def test_mistakes_are_named_by_their_place(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        read(text)

    assert str(raised.value) == message


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "not a mapping"),
        ("- a", "not a mapping"),
        ("kind: KubeProxyConfiguration", "apiVersion: None is not kubeproxy.config.k8s.io/v1alpha1"),
        ("kind: KubeletConfiguration", "kind: 'KubeletConfiguration' is not KubeProxyConfiguration"),
        (HEAD.replace("v1alpha1", "v1"), "apiVersion: 'kubeproxy.config.k8s.io/v1' is not"),
        ("a: [", "not YAML: "),
        ("a: !!python/object:os.system {}", "not YAML: "),
        (HEAD + "---\n" + HEAD, "not YAML: "),
        (HEAD + "? [a]\n: b", "not YAML: "),
    ],
)
def test_what_is_no_configuration_at_all(text: str, message: str) -> None:
    with pytest.raises(Unreadable) as raised:
        load(text)

    assert str(raised.value).startswith(message)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text, note",
    [
        ("foo: 1", "foo: unknown field, ignored"),
        ("1: b", "1: unknown field, ignored"),
        ("conntrack: {mim: 1}", "conntrack.mim: unknown field, ignored; is min meant?"),
        ("cluster_cidr: x", "cluster_cidr: unknown field, ignored; is clusterCIDR meant?"),
        ("ClusterCIDR: x", "ClusterCIDR: unknown field, ignored; is clusterCIDR meant?"),
        (
            "logging: {options: {json: {splitStreams: 1}}}",
            "logging.options.json.splitStreams: unknown field, ignored; is splitStream meant?",
        ),
        ("logging: {vmodule: [{filePattern: a}, {level: {a: 1}}]}", "logging.vmodule[1].level: unknown field, ignored"),
        ("mode: a\nmode: nftables", "line 4: 'mode' stands twice; the last counts"),
        ("nftables: {masqueradeBit: 1, masqueradeBit: 2}", "line 3: 'masqueradeBit' stands twice; the last counts"),
    ],
)
def test_what_kube_proxy_only_logs_is_only_noted(text: str, note: str) -> None:
    config, notes = load(HEAD + text + "\noomScoreAdj: 7\n")

    assert notes == (note,)
    assert config.oom_score_adj == 7
    assert config.mode in ("", "nftables")
    assert config.nftables.masquerade_bit in (14, 2)


def test_beside_an_unknown_field_a_wrong_type_is_still_an_error() -> None:
    with pytest.raises(Unreadable, match=r"^mode: expected `str`, got `int`$"):
        read("foo: 1\nmode: 5")


def test_fields_of_earlier_versions_are_let_pass_and_noted() -> None:
    text = "resourceContainer: /kube-proxy\nconntrack: {max: 5, min: 7}\n"
    config, notes = load(HEAD + text)

    assert config.conntrack.min == 7
    assert [note.partition(":")[0] for note in notes] == ["resourceContainer", "conntrack.max"]


@pytest.mark.parametrize("value", ["5", "[1s]", "-1s", "soon"])
def test_a_wrong_idle_timeout_is_let_pass_where_it_means_nothing(value: str) -> None:
    """As kube-proxy, which knows the field no more."""
    config, notes = load(f"{HEAD}mode: ipvs\nudpIdleTimeout: {value}\n")

    assert config.udp_idle_timeout == UDP_IDLE
    assert [note.partition(":")[0] for note in notes] == ["udpIdleTimeout"]


@pytest.mark.parametrize("value", ["5", "[1s]", "soon"])
@pytest.mark.parametrize("mode", ["userspace", '""'])
def test_a_wrong_idle_timeout_is_an_error_where_it_may_count(mode: str, value: str) -> None:
    with pytest.raises(Unreadable, match=r"^udpIdleTimeout: "):
        read(f"mode: {mode}\nudpIdleTimeout: {value}\n")


def test_the_idle_timeout_of_userspace_mode_is_written_where_it_is_not_the_default() -> None:
    """As kubeadm once wrote it, 0s is the default; kube-proxy has no such field any more."""
    assert "udpIdleTimeout" not in dump(filled(read("udpIdleTimeout: 0s")))
    config = filled(read("mode: userspace\nudpIdleTimeout: 1500ms"))
    assert "udpIdleTimeout: 1.5s" in dump(config)
    assert load(dump(config)) == (config, ())


def test_scalars_are_the_api_machinerys() -> None:
    """No numbers to base 60 and no dates: both stay text."""
    assert read("hostnameOverride: 2026-01-01").hostname_override == "2026-01-01"
    assert read("portRange: 10:30").port_range == "10:30"
    assert read("conntrack: {min: 0x10}").conntrack.min == 16
    assert read("enableProfiling: yes").enable_profiling


def test_the_flush_frequency_alone_may_be_nanoseconds() -> None:
    assert read("logging: {flushFrequency: 5000000000}").logging.flush_frequency == of(seconds=5)
    assert read("logging: {flushFrequency: 2s}").logging.flush_frequency == of(seconds=2)


def test_what_is_written_is_read_back() -> None:
    vmodule = "logging: {vmodule: [{filePattern: a, verbosity: 3}], options: {text: {splitStream: true}}}\n"
    lists = "featureGates: {A: true}\nipvs: {excludeCIDRs: [10.0.0.0/8]}\nnodePortAddresses: [10.0.0.0/8]\n"
    config = completed(filled(read(vmodule + lists)))

    assert load(dump(config)) == (config, ())


def test_a_written_file_has_every_field_but_the_empty_ones_kube_proxy_leaves_out() -> None:
    data = plain(completed(filled(KubeProxyConfiguration())))

    assert data["conntrack"]["tcpEstablishedTimeout"] == "24h0m0s"
    assert data["nodePortAddresses"] == ("primary",)
    assert data["logging"] == {
        "format": "text",
        "flushFrequency": "5s",
        "verbosity": 0,
        "options": {"text": {"infoBufferSize": "0"}, "json": {"infoBufferSize": "0"}},
    }
    assert "featureGates" not in data
    assert "windowsRunAsService" not in data


def test_the_yaml_library_is_loaded_for_files_only() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from nodeagent import config;"
        "config.parse(['--server=a:1', '--insecure']); sys.exit('yaml' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


def test_anchors_and_merges_are_read() -> None:
    config = read(
        "iptables: &periods {syncPeriod: 7s, minSyncPeriod: 2s}\nnftables:\n  <<: *periods\n  minSyncPeriod: 3s\n"
    )

    assert (config.nftables.sync_period, config.nftables.min_sync_period) == (of(seconds=7), of(seconds=3))
