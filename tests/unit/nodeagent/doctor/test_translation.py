"""kube-proxy's configuration to the agent's: what is the same, what is different, what has no counterpart."""

from __future__ import annotations

from pathlib import Path

import pytest

import nodeagent.config
from nodeagent.config import document
from nodeagent.config.options import OPTIONS
from nodeagent.config.schema import file_path
from nodeagent.config.validation import MODES
from nodeagent.doctor import BadInput, Change, KubeProxy, changes, translated, written

HEAD = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n"


def of(text: str, *arguments: str) -> KubeProxy:
    return KubeProxy("ConfigMap kube-system/kube-proxy", arguments, HEAD + text, "config.conf")


def by_setting(given: KubeProxy, mode: str = "nftables") -> dict[str, Change]:
    return {change.setting: change for change in changes(translated(given, mode))}


@pytest.mark.parametrize("before", ["", *MODES])
@pytest.mark.parametrize("mode", MODES)
def test_the_agents_own_parser_takes_what_is_written_without_a_note(tmp_path: Path, before: str, mode: str) -> None:
    given = of(f"mode: '{before}'\nclusterCIDR: 10.0.0.0/8\nipvs: {{scheduler: lc}}\nfeatureGates: {{A: true}}\n")
    file = tmp_path / "agent.conf"

    file.write_text(written.text(translated(given, mode).ours))
    settings = nodeagent.config.parse(["--server=192.0.2.1:1", "--insecure", f"--config={file}"])

    assert settings.proxy_mode == mode
    assert settings.cluster_cidrs == ("10.0.0.0/8",)
    assert settings.notes == ()


def test_masquerading_and_the_sync_period_go_with_the_mode() -> None:
    given = of("mode: ipvs\niptables: {masqueradeAll: true, masqueradeBit: 9}\nipvs: {syncPeriod: 7s}\n")

    ours = translated(given, "nftables").ours

    assert (ours.nftables.masquerade_all, ours.nftables.masquerade_bit) == (True, 9)
    assert str(ours.nftables.sync_period) == "7s"
    assert by_setting(given)["iptables.masqueradeAll"].verdict == "same"


@pytest.mark.parametrize(
    ("before", "said", "mode", "ours"),
    [
        ("iptables", "[]", "nftables", ("0.0.0.0/0", "::/0")),
        ("", "[]", "nftables", ("0.0.0.0/0", "::/0")),
        ("iptables", "[192.0.2.0/24]", "nftables", ("192.0.2.0/24",)),
        ("nftables", "[]", "iptables", ("primary",)),
        ("iptables", "[]", "iptables", ()),
        ("nftables", "[]", "nftables", ("primary",)),
    ],
)
def test_node_ports_answer_where_they_did(before: str, said: str, mode: str, ours: tuple[str, ...]) -> None:
    given = of(f"mode: '{before}'\nnodePortAddresses: {said}\n")

    assert translated(given, mode).ours.node_port_addresses == ours


def test_a_setting_without_counterpart_says_why_and_what_was_not_given_is_told_apart() -> None:
    found = by_setting(of("mode: ipvs\nipvs: {scheduler: lc}\nclientConnection: {qps: 50}\n"))

    assert (found["ipvs.scheduler"].verdict, found["ipvs.scheduler"].given) == ("no counterpart", True)
    assert found["clientConnection.qps"].why.startswith("the agent never talks to the API server")
    assert [found[name].given for name in ("clientConnection.qps", "clientConnection.burst")] == [True, False]


def test_every_setting_of_kube_proxys_file_is_compared_in_one_mode_or_another() -> None:
    found = {name for mode in MODES for name in by_setting(of(f"mode: {mode}\n"))}

    assert {file_path(option.path) for option in OPTIONS if option.path} <= found


def test_flags_alone_and_flags_beside_a_file_count_as_kube_proxy_counts_them() -> None:
    alone = translated(KubeProxy("process 7", ("--proxy-mode=iptables", "--cluster-cidr=10.0.0.0/8")), "iptables").ours
    beside = translated(of("clusterCIDR: 10.1.0.0/16\n", "--cluster-cidr=10.0.0.0/8", "--v=4"), "iptables").ours

    assert alone.cluster_cidr == "10.0.0.0/8"
    assert (beside.cluster_cidr, beside.logging.verbosity) == ("10.1.0.0/16", 4)


def test_what_a_daemonset_fills_in_for_each_node_is_left_to_the_node() -> None:
    given = of("", "--config=/var/lib/kube-proxy/config.conf", "--hostname-override=$(NODE_NAME)")

    assert translated(given, "nftables").ours.hostname_override == ""


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (of("iptables: {masqueradeBit: many}\n"), ["ConfigMap kube-system/kube-proxy", "config.conf", "masqueradeBit"]),
        (of("hostnameOverride: '  '\n"), ["ConfigMap", "config.conf: --hostname-override: only blanks"]),
        (of("clusterCIDR: nowhere\n"), ["ConfigMap", "config.conf", "ClusterCIDRs", "must be a valid CIDR"]),
        (of("mode: [\n"), ["ConfigMap", "config.conf", "not YAML"]),
        (KubeProxy("DaemonSet a/b", (), "kind: Pod\n", "x"), ["DaemonSet a/b, x", "kind: 'Pod' is not"]),
        (KubeProxy("process 7", ("--no-such-flag",)), ["process 7, command line", "--no-such-flag"]),
        (KubeProxy("process 7", ("--v=x",)), ["process 7, command line", "'x' is not a whole number"]),
        (KubeProxy("process 7", ("--help",)), ["process 7, command line", "asks for help"]),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_place_field_and_reason(given: KubeProxy, words: list[str]) -> None:
    with pytest.raises(BadInput) as error:
        translated(given, "nftables")

    assert [word for word in words if word not in str(error.value)] == []


def test_notes_on_fields_that_nobody_knows_are_passed_on() -> None:
    assert translated(of("resourceContainer: /kube-proxy\n"), "nftables").notes == (
        f"resourceContainer: {document.REMOVED['resourceContainer']}",
    )


def test_a_nodes_name_is_taken_in_lower_case_as_kube_proxy_takes_it() -> None:
    found = translated(of("hostnameOverride: ' Node-A'\n"), "nftables")

    assert (found.theirs.hostname_override, found.ours.hostname_override) == ("node-a", "node-a")


def test_a_file_is_named_once() -> None:
    with pytest.raises(BadInput) as error:
        translated(KubeProxy("a.conf", (), HEAD + "clusterCIDR: nowhere\n", "a.conf"), "nftables")

    assert str(error.value).count("a.conf") == 1


@pytest.mark.parametrize(
    ("address", "anywhere", "healthz", "metrics"),
    [
        ("192.0.2.1", "0.0.0.0", "0.0.0.0:10256", "0.0.0.0:1"),
        ("2001:db8::1", "::", "[::]:10256", "[::]:1"),
    ],
)
def test_a_component_for_all_nodes_has_neither_name_nor_address_of_the_one_that_was_asked(
    tmp_path: Path, address: str, anywhere: str, healthz: str, metrics: str
) -> None:
    host = f"[{address}]" if ":" in address else address
    said = f"hostnameOverride: node-a\nbindAddress: '{address}'\nmetricsBindAddress: '{host}:1'\n"
    ours = translated(of(f"{said}healthzBindAddress: '{host}:10256'\n"), "nftables").ours

    left = written.component(ours, tmp_path)
    shared, _ = document.load((tmp_path / "agent.conf").read_text())

    assert (shared.hostname_override, shared.bind_address) == ("", anywhere)
    assert (shared.healthz_bind_address, shared.metrics_bind_address) == (healthz, metrics)
    assert left == [
        "hostnameOverride node-a",
        f"bindAddress {address}",
        f"healthzBindAddress {host}:10256",
        f"metricsBindAddress {host}:1",
    ]


def test_addresses_that_every_node_has_stay_in_the_component(tmp_path: Path) -> None:
    ours = translated(of("healthzBindAddress: 127.0.0.1:10256\nmetricsBindAddress: '[::]:1'\n"), "nftables").ours

    assert written.component(ours, tmp_path) == []
    shared, _ = document.load((tmp_path / "agent.conf").read_text())
    assert (shared.healthz_bind_address, shared.metrics_bind_address) == ("127.0.0.1:10256", "[::]:1")
