"""Kernel settings at start (J8, L8), on a copy of the files."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from nodeagent import config
from nodeagent.config.durations import parse
from nodeagent.config.schema import Conntrack
from nodeagent.dataplane.modes import initialised
from nodeagent.node.sysctl import CEILING, Setting, conntrack_max, plan, setup

NET = "proc/sys/net/netfilter"
HASHSIZE = "sys/module/nf_conntrack/parameters/hashsize"
NOTHING = Conntrack(max_per_core=0, min=0, tcp_established_timeout=parse("0"), tcp_close_wait_timeout=parse("0"))
FILES = {
    f"{NET}/nf_conntrack_max": 65536,
    f"{NET}/nf_conntrack_buckets": 16384,
    HASHSIZE: 16384,
    f"{NET}/nf_conntrack_tcp_timeout_established": 432000,
    f"{NET}/nf_conntrack_tcp_timeout_close_wait": 60,
    f"{NET}/nf_conntrack_tcp_be_liberal": 0,
    f"{NET}/nf_conntrack_udp_timeout": 30,
    f"{NET}/nf_conntrack_udp_timeout_stream": 120,
}


class Case(NamedTuple):
    per_core: int
    minimum: int
    cores: int
    expected: int


@pytest.mark.parametrize(
    "case",
    [
        Case(0, 0, 4, 0),
        Case(0, 131072, 4, 0),  # 0 per core leaves the kernel's, whatever the minimum
        Case(32768, 131072, 1, 131072),
        Case(32768, 131072, 4, 131072),
        Case(32768, 131072, 5, 163840),
        Case(1, 0, 4, 4),
        Case(10, 50, 4, 50),
        Case(32768, 0, 32, CEILING),
        Case(32768, 131072, 256, CEILING),
        Case(1, 2 * CEILING, 4, CEILING),
    ],
)
def test_the_limit_grows_with_the_cores_between_floor_and_ceiling(case: Case) -> None:
    assert conntrack_max(Conntrack(max_per_core=case.per_core, min=case.minimum), case.cores) == case.expected


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NOTHING, {}),
        (
            Conntrack(),
            {
                "nf_conntrack_max": 131072,
                "hashsize": 32768,
                "nf_conntrack_tcp_timeout_established": 86400,
                "nf_conntrack_tcp_timeout_close_wait": 3600,
            },
        ),
        (
            Conntrack(max_per_core=12000, min=0, tcp_established_timeout=parse("0"), tcp_close_wait_timeout=parse("0")),
            {"nf_conntrack_max": 48000, "hashsize": 12000},
        ),
        (
            Conntrack(max_per_core=0, tcp_established_timeout=parse("5s"), tcp_close_wait_timeout=parse("0")),
            {"nf_conntrack_tcp_timeout_established": 5},
        ),
        (
            Conntrack(max_per_core=0, tcp_established_timeout=parse("0"), tcp_close_wait_timeout=parse("5.9s")),
            {"nf_conntrack_tcp_timeout_close_wait": 5},
        ),
        (
            Conntrack(
                max_per_core=0,
                tcp_established_timeout=parse("0"),
                tcp_close_wait_timeout=parse("0"),
                tcp_be_liberal=True,
            ),
            {"nf_conntrack_tcp_be_liberal": 1},
        ),
        (Conntrack(max_per_core=0, tcp_established_timeout=parse("0.4s"), tcp_close_wait_timeout=parse("0")), {}),
        (
            Conntrack(
                max_per_core=0,
                tcp_established_timeout=parse("0"),
                tcp_close_wait_timeout=parse("0"),
                udp_timeout=parse("5s"),
                udp_stream_timeout=parse("6s"),
            ),
            {"nf_conntrack_udp_timeout": 5, "nf_conntrack_udp_timeout_stream": 6},
        ),
    ],
)
def test_what_is_not_configured_is_left(config: Conntrack, expected: dict[str, int]) -> None:
    assert {Path(setting.path).name: setting.value for setting in plan(config, 4)} == expected


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, value in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return tmp_path


def values(root: Path) -> dict[str, int]:
    return {name: int((root / name).read_text()) for name in FILES}


def test_settings_that_differ_are_written_and_the_rest_is_left(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert setup(Conntrack(), cores=4, root=root) == []
    changed = {name: value for name, value in values(root).items() if value != FILES[name]}
    assert changed == {
        f"{NET}/nf_conntrack_max": 131072,
        HASHSIZE: 32768,
        f"{NET}/nf_conntrack_tcp_timeout_established": 86400,
        f"{NET}/nf_conntrack_tcp_timeout_close_wait": 3600,
    }
    assert len(caplog.records) == 4
    caplog.clear()
    (root / NET / "nf_conntrack_buckets").write_text("32768\n")
    assert setup(Conntrack(), cores=4, root=root) == []
    assert caplog.records == []  # nothing differs, nothing is written


def test_a_higher_limit_is_lowered_as_kube_proxy_does_and_a_bigger_table_is_kept(root: Path) -> None:
    (root / NET / "nf_conntrack_max").write_text("262144\n")
    (root / NET / "nf_conntrack_buckets").write_text("262144\n")
    assert setup(Conntrack(), cores=2, root=root) == []
    assert values(root)[f"{NET}/nf_conntrack_max"] == 131072
    assert values(root)[HASHSIZE] == 16384


def test_without_the_buckets_file_the_parameter_is_read(root: Path) -> None:
    (root / NET / "nf_conntrack_buckets").unlink()
    (root / HASHSIZE).write_text("40000\n")
    assert setup(Conntrack(), cores=2, root=root) == []
    assert int((root / HASHSIZE).read_text()) == 40000


def test_what_cannot_be_written_is_told_and_the_rest_goes_on(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    usual = Path.write_text

    def read_only(path: Path, *arguments: str) -> int:
        if "sys/module" in str(path) or "buckets" in str(path):
            raise OSError(30, "Read-only file system")
        return usual(path, *arguments)

    monkeypatch.setattr(Path, "write_text", read_only)
    (failure,) = setup(Conntrack(), cores=4, root=root)
    assert failure.setting == Setting(HASHSIZE, 32768, at_least=True, shown=f"{NET}/nf_conntrack_buckets")
    assert "hashsize cannot be written (Read-only file system): " in failure.text
    assert values(root)[f"{NET}/nf_conntrack_tcp_timeout_close_wait"] == 3600
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"]


def test_a_kernel_without_connection_tracking_is_told(tmp_path: Path) -> None:
    failures = setup(Conntrack(), cores=4, root=tmp_path)
    assert len(failures) == 4
    assert all(failure.text.endswith("does not exist: load the module nf_conntrack") for failure in failures)


def test_a_file_that_holds_no_number_is_told(root: Path) -> None:
    (root / NET / "nf_conntrack_max").write_text("much\n")
    (failure,) = setup(Conntrack(), cores=4, root=root)
    assert failure.text.endswith("nf_conntrack_max holds no number")


def test_where_only_proc_is_to_be_had_the_table_grows_through_the_file_that_shows_it(root: Path) -> None:
    shutil.rmtree(root / "sys")
    (root / NET / "nf_conntrack_buckets").write_text("1024\n")

    assert setup(Conntrack(), cores=4, root=root) == []
    assert (root / NET / "nf_conntrack_buckets").read_text() == "32768\n"


def test_init_only_says_by_its_exit_code_whether_all_is_made(root: Path, tmp_path: Path) -> None:
    def made(place: Path, *flags: str) -> int:
        return initialised(config.parse(["--init-only", f"--sysctl-root={place}", *flags]))

    assert made(root) == 0
    assert values(root)[f"{NET}/nf_conntrack_tcp_timeout_close_wait"] == 3600
    assert made(tmp_path / "nowhere") == 1
    leave = ("max-per-core=0", "tcp-timeout-established=0", "tcp-timeout-close-wait=0")
    assert made(tmp_path / "nowhere", *[f"--conntrack-{flag}" for flag in leave]) == 0
