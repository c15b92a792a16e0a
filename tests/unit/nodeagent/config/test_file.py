"""The command line with a file beside it, the file that is written, and the file that changes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import yaml

from deltaplane.flags import UsageError
from nodeagent.config import in_mode, parse, write
from nodeagent.config.durations import of
from nodeagent.config.watch import changed
from tests.unit.nodeagent.config.cases import HEAD

RUN = ["--server=127.0.0.1:50051", "--insecure"]


@pytest.fixture
def file(tmp_path: Path) -> Any:
    def written(text: str) -> str:
        path = tmp_path / "config.yaml"
        path.write_text(HEAD + text)
        return f"--config={path}"

    return written


def test_a_file_says_what_flags_would(file: Any) -> None:
    settings = parse([*RUN, file("clusterCIDR: 10.0.0.0/8\nnftables: {masqueradeAll: true, masqueradeBit: 3}\n")])

    assert settings.cluster_cidrs == ("10.0.0.0/8",)
    assert (settings.masquerade_all, settings.masquerade_bit) == (True, 3)
    assert settings.notes == ()


def test_beside_a_file_kube_proxys_flags_are_ignored_and_the_log_says_so(file: Any) -> None:
    flags = [
        "--masquerade-all",
        "--cluster-cidr=10.0.0.0/8",
        "--healthz-port=1",
        "--kubeconfig=/x",
        "--oom-score-adj=5",
    ]
    settings = parse([*RUN, file("mode: nftables\n"), *flags])

    assert (settings.masquerade_all, settings.cluster_cidrs, settings.oom_score_adj) == (False, (), -999)
    assert settings.healthz_address == "0.0.0.0:10256"
    ignored = {note.partition(":")[0] for note in settings.notes if "ignored" in note}
    assert ignored == {"--masquerade-all", "--cluster-cidr", "--healthz-port", "--kubeconfig", "--oom-score-adj"}


def test_beside_a_file_a_few_flags_count(file: Any, tmp_path: Path) -> None:
    text = "mode: iptables\nhostnameOverride: a\nlogging: {verbosity: 1}\n"
    settings = parse(
        [*RUN, file(text), "--hostname-override=B", "--proxy-mode=nftables", "--v=6", f"--state-dir={tmp_path}"]
    )

    assert (settings.node_name, settings.proxy_mode, settings.verbosity) == ("b", "nftables", 6)
    assert settings.state_dir == str(tmp_path)


def test_the_mode_picks_its_section(file: Any) -> None:
    text = "mode: iptables\niptables: {masqueradeBit: 5, masqueradeAll: true, syncPeriod: 7s}\nnodePortAddresses: []\n"
    settings = parse([*RUN, file(text)])

    assert (settings.masquerade_bit, settings.masquerade_all, settings.sync_period) == (5, True, of(seconds=7))
    assert settings.node_port_addresses == ()


def test_fields_of_a_file_that_do_nothing_say_why(file: Any) -> None:
    text = "winkernel: {networkName: x}\nipvs: {scheduler: lc}\nclientConnection: {qps: 9}\nudpIdleTimeout: 1s\n"
    notes = in_mode(parse([*RUN, file(text)]), "nftables").notes

    assert [note.partition(":")[0] for note in notes] == [
        "ipvs.scheduler", "udpIdleTimeout", "clientConnection.qps", "winkernel",
    ]  # fmt: skip


def test_limits_of_userspace_mode_beside_a_file(file: Any) -> None:
    """Our own flags count; kube-proxy's is the file's to say."""
    flags = ["--userspace-max-connections=5", "--userspace-max-udp-clients=6", "--udp-timeout=9s"]
    settings = parse([*RUN, file("mode: userspace\nudpIdleTimeout: 2s\n"), *flags])

    assert (settings.max_connections, settings.max_udp_clients, settings.udp_idle_seconds) == (5, 6, 2)
    assert settings.notes == ("--udp-timeout: ignored, since --config is given",)


def test_every_mistake_of_a_file_is_in_the_one_line(file: Any) -> None:
    flag = file("bindAddress: x\noomScoreAdj: 2000\n")
    with pytest.raises(UsageError) as raised:
        parse([*RUN, flag])
    message = str(raised.value)

    assert message.startswith(f"deltaplane agent: {flag}: ")
    assert "OOMScoreAdj" in message
    assert "BindAddress" in message


def test_the_written_configuration_is_taken_back(tmp_path: Path) -> None:
    target = tmp_path / "out.yaml"
    flags = ["--cluster-cidr=10.0.0.0/8", "--masquerade-all", "--v=4", "--udp-timeout=3s"]
    first = parse([f"--write-config-to={target}", *flags])
    write(first)

    again = parse([*RUN, f"--config={target}"])

    assert again.configuration == first.configuration
    assert again.udp_idle_seconds == 3
    assert yaml.safe_load(target.read_text())["clusterCIDR"] == "10.0.0.0/8"


async def test_a_changed_file_is_noticed_and_a_vanished_one_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a")
    waiting = asyncio.create_task(changed(str(file), seconds=0.01))
    await asyncio.sleep(0)
    file.unlink()
    await asyncio.sleep(0.05)
    file.write_text("a")
    await asyncio.sleep(0.05)

    assert not waiting.done()

    file.write_text("b")
    await asyncio.wait_for(waiting, 10)
