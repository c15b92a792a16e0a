"""Loopback is routed only behind its guard, and nothing that is there already is written again."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.dataplane.iptables.base import loopback_guard
from nodeagent.dataplane.iptables.localnet import SWITCH, guarding, route
from nodeagent.dataplane.iptables.settings import Settings
from nodeagent.linux.iptables.programs import Refusal

GUARD = f"-A KUBE-FIREWALL {loopback_guard().rule}"
JUMPS = ["-I INPUT -j KUBE-FIREWALL", "-I OUTPUT -j KUBE-FIREWALL"]
BARE: dict[str, list[str]] = {"INPUT": [], "FORWARD": [], "OUTPUT": []}
KUBELETS = {"INPUT": ["-j KUBE-FIREWALL"], "FORWARD": [], "OUTPUT": ["-j KUBE-FIREWALL"], "KUBE-FIREWALL": ["-j DROP"]}
WHOLE = {**KUBELETS, "KUBE-FIREWALL": ["-j DROP", loopback_guard().rule]}


@pytest.mark.parametrize(
    "found, lines",
    [(BARE, [":KUBE-FIREWALL - [0:0]", GUARD, *JUMPS]), (KUBELETS, [GUARD]), (WHOLE, [])],
    ids=["nothing", "the kubelet's chain", "all of it"],
)
def test_what_is_missing_of_the_guard_is_written_and_no_chain_is_emptied(
    found: dict[str, list[str]], lines: list[str]
) -> None:
    assert guarding(found) == ("\n".join(["*filter", *lines, "COMMIT", ""]) if lines else "")


class Kernel:
    """Notes what is restored, and what the switch was then."""

    def __init__(self, root: Path, refusal: Refusal | None = None) -> None:
        self._switch, self._refusal = root / SWITCH, refusal
        self._switch.parent.mkdir(parents=True)
        self._switch.write_text("0\n")
        self.restored: list[tuple[str, str]] = []

    def save(self, family: int, table: str) -> str:
        assert (family, table) == (4, "filter")
        return "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n"

    def restore(self, family: int, text: str) -> Refusal | None:
        assert family == 4
        self.restored.append((text, self.switch))
        return self._refusal

    @property
    def switch(self) -> str:
        return self._switch.read_text().strip()


def test_the_guard_is_in_before_the_switch(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)

    assert route(kernel, Settings(), tmp_path) == ""  # type: ignore[arg-type]
    assert kernel.restored == [(guarding(BARE), "0")]
    assert kernel.switch == "1"


def test_without_its_guard_the_switch_stays_as_it_is(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path, Refusal("no", 1, busy=False))

    assert route(kernel, Settings(), tmp_path) == "its guard cannot be written (no)"  # type: ignore[arg-type]
    assert kernel.switch == "0"


def test_a_switch_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    kernel = Kernel(tmp_path / "elsewhere")

    assert "route_localnet cannot be written" in route(kernel, Settings(), tmp_path)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "settings", [Settings(localhost_node_ports=False), Settings(node_port_networks=("192.0.2.0/24",))]
)
def test_where_node_ports_do_not_answer_on_loopback_nothing_is_written(settings: Settings, tmp_path: Path) -> None:
    kernel = Kernel(tmp_path)

    assert route(kernel, settings, tmp_path) == ""  # type: ignore[arg-type]
    assert (kernel.restored, kernel.switch) == ([], "0")
