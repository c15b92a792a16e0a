"""The tables of the comparison with kube-proxy: made of what was kept, and what is not better is said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import machine
from bench.compare import crowd, figures, main, pages, results, seen, tables
from bench.compare.contenders import CONTENDERS, Contender, Proxy
from bench.compare.scene import Size


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(results, "FOLDER", tmp_path / "compare")
    return tmp_path


def started(seconds: float, **more: Any) -> dict[str, Any]:
    return {"seconds": seconds, "cpu": 0.1, "cpu_settled": 0.2, **more}


def test_rounds_are_added_and_their_median_is_compared() -> None:
    for ours, theirs in ((0.2, 0.6), (0.3, 0.9), (9.0, 0.5)):
        results.add("100x3", "deltaplane-nftables", "start", started(ours))
        results.add("100x3", "kube-proxy-nftables", "start", started(theirs))
    (start, cpu, _) = tables.pairs(figures.START)
    assert (start.ours, start.theirs, start.times) == (0.3, 0.6, 2.0)
    assert cpu.times == 1.0
    assert "| 100 x 3 | nftables | 0.30 | 0.60 | 2.0 |" in pages.text()


def test_what_kube_proxy_does_as_well_or_better_is_named_worst_first() -> None:
    results.keep("1000x10", "deltaplane-iptables", "rate", {"packet": [1.0], "after": 1.0, "cpu": 4.0, "changes": 2})
    results.keep("1000x10", "kube-proxy-iptables", "rate", {"packet": [2.0], "after": 0.5, "cpu": 1.0, "changes": 2})
    assert tables.worse() == [
        "- rate CPU at 1,000 x 10, iptables: 2,000 ms, kube-proxy 500 ms",
        "- behind at 1,000 x 10, iptables: 1.00 s, kube-proxy 0.50 s",
    ]
    assert pages.text().startswith("- rate CPU at 1,000 x 10")


def test_a_start_that_never_ended_is_said_and_no_number() -> None:
    results.add("44000x4", "deltaplane-nftables", "start", started(4.0))
    results.add("44000x4", "kube-proxy-nftables", "start", started(600.0, failed=True))
    row = "| 44,000 x 4 | nftables | 4.00 | not in 600 s |  |"
    assert row in pages.text()
    assert "44,000 x 4, nftables, sooner: kube-proxy did not come to it" in pages.text()


def test_sizes_are_in_order_and_another_entry_of_a_file_stays() -> None:
    for size in ("10000x10", "100x3", "5000x50"):
        results.keep(size, "deltaplane-nftables", "memory", {"rss": 2048, "peak": 4096})
    results.keep("100x3", "deltaplane-nftables", "big", {"kernel": [], "changes": 0})
    results.drop("100x3", "deltaplane-nftables", "big")
    assert list(results.sizes()) == ["100x3", "5000x50", "10000x10"]
    assert list(results.load("100x3", "deltaplane-nftables")) == ["memory"]


def test_nothing_is_measured_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    staged: list[Size] = []
    monkeypatch.setattr(main, "staged", lambda size, _: staged.append(size))
    for who in CONTENDERS:
        results.add("1x1", who.name, "start", started(1.0))
    assert main.main(["--quick", "--tables"]) == 0
    monkeypatch.setattr(results, "FOLDER", results.FOLDER.with_name("compare-quick"))
    for who in CONTENDERS:
        results.add("1x1", who.name, "start", started(1.0))
    assert main.main(["--quick", "--sizes=1x1", "--only=start"]) == 0
    assert staged == []


def test_a_third_of_the_endpoints_is_in_each_zone_and_no_two_have_one_address() -> None:
    new = crowd.Addresses()
    made = [new.first(crowd.zone_of(number, place)) for number in range(99) for place in range(10)]
    assert [sum(one["zone"] == zone for one in made) for zone in crowd.ZONES] == [330, 330, 330]
    assert len({one["addresses"][0] for one in made}) == len(made)


def test_the_99th_of_a_hundred_samples_is_p99() -> None:
    raw = {"packet": [number / 1000 for number in range(200)], "after": 1.0, "cpu": 4.0, "changes": 2}
    results.keep("100x3", "deltaplane-nftables", "rate", raw)
    found = {pair.figure.key: pair.ours for pair in tables.pairs(figures.RATE)}
    assert (found["lag, p99"], found["lag, worst"]) == (197.0, 199.0)


def test_what_was_not_measured_is_listed_but_not_of_who_never_started() -> None:
    for name in ("start", "change", "rate", "big", "zone", "restart"):
        results.keep("100x3", "deltaplane-nftables", name, {"rounds": [started(1.0)]})
    results.add("100x3", "kube-proxy-nftables", "start", started(600.0, failed=True))
    lines = list(tables.absent())
    assert lines[:2] == [
        "- 100 x 3, deltaplane in nftables mode: Memory",
        "- 100 x 3, deltaplane in iptables mode: nothing was measured",
    ]
    assert not any("100 x 3, kube-proxy in nftables" in line for line in lines)


def test_a_target_that_one_program_alone_was_measured_for_is_not_left_out() -> None:
    results.add("100x3", "deltaplane-nftables", "start", started(0.2))
    assert "- start at 100 x 3, nftables, sooner: not measured on both" in pages.text()


def test_processor_time_counts_a_program_that_runs_still() -> None:
    """kube-proxy's first sync is seen by packets while its nft still runs."""
    busy = "import os, time\nwhile time.process_time() < 0.1: pass\nprint(flush=True)\ntime.sleep(60)"
    starter = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {busy!r}])"
    with subprocess.Popen([sys.executable, "-c", starter], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            assert machine.cpu_of_all(process.pid) >= machine.cpu(process.pid) + 0.09
        finally:
            for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
                os.kill(int(child), signal.SIGKILL)


class Idle:
    """A process that takes no processor time, and its commits."""

    name, running, pid = "idle", True, 1

    def __init__(self, *at: float) -> None:
        self.at = list(at)

    @property
    def last(self) -> float:
        return self.at[-1] if self.at else 0.0


@pytest.mark.parametrize(("commits", "rests"), [((), False), ((1.0,), True)])
def test_who_has_committed_nothing_yet_is_not_at_rest(
    commits: tuple[float, ...], rests: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent waits without work for a control plane that lists; what it does then belongs to its start."""
    monkeypatch.setattr(seen, "QUIET", 0.0)
    monkeypatch.setattr(machine, "cpu_of_all", lambda _: 0.0)
    monkeypatch.setattr(machine, "children", lambda _: False)
    idle: Any = Idle(*commits)
    assert seen.settled(idle, idle, 0.3) is rests


def test_an_agent_is_measured_beside_a_control_plane_that_has_everything() -> None:
    said: list[str] = []

    class ControlPlane:
        running, address = False, "127.0.0.1:1"

        def start(self, _: float) -> None:
            said.append("started")

        def wait_ready(self, _: float) -> None:
            said.append("ready")

    node: Any = None
    api: Any = None
    ours: Any = ControlPlane()
    proxy = Proxy.__new__(Proxy)
    proxy.who, proxy.node, proxy._api, proxy._controlplane = Contender("deltaplane", "nftables"), node, api, ours
    proxy.make_room()
    ours.running = True
    proxy.make_room()
    assert said == ["started", "ready", "ready"]


def test_connections_during_restarts_are_said_of_those_who_were_restarted() -> None:
    results.keep("100x3", "deltaplane-nftables", "restart", {"rounds": [started(1.0)], "tried": 5, "failed": 1})
    assert "Connections that failed during restarts: deltaplane in nftables mode 1 of 5.\n" in pages.text()


def test_what_the_plots_need_is_missed_before_anything_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(main, "find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        main.main(["--sizes", "100x3"])
    assert "make compare" in capsys.readouterr().err
