"""iptables mode by the real programs where a part is missing: an extension, or all that writes IPv6."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from nodeagent.dataplane.iptables.kinds import required
from nodeagent.errors import DataplaneUnavailable
from nodeagent.linux.iptables.programs import Flavour, Tools
from nodeagent.linux.iptables.trial import probe
from tests.kernel.iptables_support import FLAVOURS, cleaned, dataplane
from tests.kernel.iptables_support import clean as clean_up
from tests.kernel.nftables_support import node_addresses
from tests.kernel.test_iptables_packets import vip, web
from tools.lab.client import REFUSED, TIMEOUT, connect
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric

pytestmark = pytest.mark.kernel

Hide = Callable[[str], None]


@pytest.fixture
def hide(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Hide:
    """The programs do not find an extension; to them, a kernel that lacks it looks the same."""
    places = [path for path in Path("/usr/lib").glob("*/xtables") if path.is_dir()]

    def without(name: str) -> None:
        for file in (file for place in places for file in place.iterdir() if file.name != name):
            (tmp_path / file.name).symlink_to(file)
        monkeypatch.setenv("XTABLES_LIBDIR", str(tmp_path))
        monkeypatch.setattr(Tools, "account", lambda *_: True)  # also where no rule can use the kernel's counters

    return without


@pytest.fixture
def serving(clean: Fabric, echo: EchoServers) -> Fabric:
    """The first pod answers."""
    echo.start_pod(clean.pods[0])
    return clean


@FLAVOURS
def test_without_the_match_that_counts_everything_else_is_served(
    serving: Fabric, hide: Hide, flavour: Flavour, caplog: pytest.LogCaptureFixture
) -> None:
    node, pod = serving.nodes[0], serving.pods[0]
    hide("libxt_nfacct.so")
    with cleaned(node.space), dataplane(node.space, flavour) as made:
        assert made.apply([web([pod], 4)], node_addresses(node), complete=True).failed == ()
        assert connect(node.clients[0].space, vip(4), 80).answered
        assert not made.pending()
    assert len([r for r in caplog.records if r.levelno >= logging.WARNING and "nfacct" in r.getMessage()]) == 1


@FLAVOURS
def test_without_the_match_that_remembers_services_are_served_without_affinity(
    serving: Fabric, hide: Hide, flavour: Flavour
) -> None:
    node, pod = serving.nodes[0], serving.pods[0]
    hide("libxt_recent.so")
    with cleaned(node.space), dataplane(node.space, flavour) as made:
        assert made.apply([web([pod], 4, seconds=60)], node_addresses(node), complete=True).failed == ()
        assert connect(node.clients[0].space, vip(4), 80).answered


@FLAVOURS
def test_without_the_refusing_target_of_ipv6_its_connections_are_dropped(
    clean: Fabric, hide: Hide, flavour: Flavour
) -> None:
    node = clean.nodes[0]
    hide("libip6t_REJECT.so")
    with cleaned(node.space), dataplane(node.space, flavour) as made:
        for family, kind in ((4, REFUSED), (6, TIMEOUT)):
            assert made.apply([web([], family)], node_addresses(node), complete=True).failed == ()
            assert connect(node.clients[0].space, vip(family), 80, timeout=0.3).kind == kind


@FLAVOURS
def test_without_what_is_required_the_probe_says_what_was_refused(clean: Fabric, hide: Hide, flavour: Flavour) -> None:
    hide("libxt_statistic.so")
    with clean.nodes[0].space.entered(), pytest.raises(DataplaneUnavailable, match="statistic"):
        probe(required(4), flavour)


@FLAVOURS
def test_where_ip6tables_lists_and_does_not_write_ipv4_is_served(
    serving: Fabric, flavour: Flavour, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    node, pod = serving.nodes[0], serving.pods[0]
    stand_in = tmp_path / f"ip6tables-{flavour.value}-restore"
    stand_in.write_text(
        "#!/bin/sh\necho \"ip6tables-restore: unable to initialize table 'nat'\" >&2\n"
        'echo "Error occurred at line: 1" >&2\nexit 3\n'
    )
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with dataplane(node.space, flavour) as made:
        both = replace(web([pod], 4), entries=(*web([pod], 4).entries, *web([pod], 6).entries))
        done = made.apply([both], node_addresses(node), complete=True)
        assert [failed.code for failed in done.failed] == ["UNSUPPORTED"]
        assert connect(node.clients[0].space, vip(4), 80).answered
        assert not made.pending()
        assert made.apply([web([pod], 4)]).failed == ()
        assert connect(node.clients[0].space, vip(4), 80).answered
    assert len([r for r in caplog.records if r.levelno == logging.ERROR]) == 1
    monkeypatch.undo()
    clean_up(node.space)
