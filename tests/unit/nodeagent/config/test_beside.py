"""--beside-kube-proxy: what the agent leaves to the other proxy."""

from __future__ import annotations

import pytest

from deltaplane.flags import UsageError
from nodeagent.config import parse
from nodeagent.dataplane.modes.choice import choose
from nodeagent.errors import DataplaneUnavailable

BESIDE = ["--server=192.0.2.1:1", "--insecure", "--beside-kube-proxy"]


def test_pages_are_served_only_where_a_flag_says_so() -> None:
    silent, told = parse(BESIDE), parse([*BESIDE, "--healthz-bind-address=0.0.0.0:1"])

    assert (silent.healthz_address, silent.metrics_address) == (None, None)
    assert (told.healthz_address, told.metrics_address) == ("0.0.0.0:1", None)
    assert silent.beside_kube_proxy
    assert not parse(BESIDE[:2]).beside_kube_proxy


@pytest.mark.parametrize("mode", ["iptables", "ipvs"])
def test_a_mode_with_kube_proxys_own_chains_is_refused(mode: str) -> None:
    with pytest.raises(UsageError, match=f"--beside-kube-proxy does not go with mode {mode}"):
        parse([*BESIDE, f"--proxy-mode={mode}"])


def test_such_a_mode_is_not_taken_either_where_another_cannot_work() -> None:
    def probe(mode: str) -> None:
        if mode == "nftables":
            raise DataplaneUnavailable("nftables: none here")

    assert choose("auto", probe, scheduler=True, never=("iptables", "ipvs")).mode == "userspace"
    assert choose("auto", probe).mode == "iptables"
