"""tools/real-parts builds what the chosen tests need, and says what it does meanwhile."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import PARTS
from tools.lab import parts

REPOSITORY = Path(__file__).parents[2]
GO = """#!/bin/sh
case $1 in
  env) echo go1.26.6 ;;
  build) while [ $# -gt 0 ]; do [ "$1" != -o ] || out=$2; last=$1; shift; done
    case $last in *jaeger*) echo "no jaeger today" >&2; exit 1 ;; esac
    echo program >"$out"; chmod +x "$out" ;;
  install) for last; do :; done; last=${last##*/}; last=$GOBIN/${last%@*}; echo program >"$last"; chmod +x "$last" ;;
esac
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache, and a compiler that is done at once and cannot build one of the programs."""
    compiler = tmp_path / "bin" / "go"
    compiler.parent.mkdir()
    compiler.write_text(GO)
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("DELTAPLANE_CACHE", str(tmp_path / "cache"))
    parts.folder.cache_clear()
    yield tmp_path / "cache"
    parts.folder.cache_clear()


def real_parts(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([parts.SCRIPT, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False)


def needed(*arguments: str) -> set[str]:
    command = [sys.executable, "-m", "tests.needs", *arguments]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_it_says_what_is_built_which_of_how_many_and_how_long_that_usually_takes(cache: Path) -> None:
    done = real_parts("kubectl", "grpcurl")

    assert done.returncode == 0, done.stderr
    assert "2 real programs are built, once" in done.stderr
    assert "1 of 2: building kubectl (usually about " in done.stderr
    assert "2 of 2: building grpcurl (usually about " in done.stderr
    assert "done after 0:0" in done.stderr


def test_a_part_that_cannot_be_built_does_not_hold_up_the_others_and_leaves_its_reason(cache: Path) -> None:
    done = real_parts()

    assert done.returncode == 1
    assert "jaeger could not be built: no jaeger today" in done.stderr
    apart = ("helm-", "promtool-", ".")
    there = {path.name for path in parts.folder().iterdir() if not path.name.startswith(apart)}
    assert there == PARTS - {"jaeger"} | {"jaeger.failed"}
    with pytest.raises(parts.PartMissing, match="jaeger cannot be built here: no jaeger today"):
        parts.find("jaeger")


def test_a_folder_that_cannot_be_written_will_do_where_nothing_is_missing(cache: Path) -> None:
    real_parts()
    folder = parts.folder()
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]}

    done = real_parts(*PARTS - {"jaeger"})

    assert (done.returncode, done.stderr, done.stdout.strip()) == (0, "", str(folder))
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.iterdir()]} == before


def test_a_part_that_is_not_built_is_a_reason_that_names_the_command(cache: Path) -> None:
    with pytest.raises(parts.PartMissing, match="kube-proxy is not built: run tools/real-parts kube-proxy"):
        parts.find("kube-proxy")


@pytest.mark.parametrize("name", ["helm", "promtool"])
def test_another_pin_of_one_apart_builds_it_and_nothing_else(cache: Path, name: str) -> None:
    real_parts()
    (built,) = parts.folder().glob(f"{name}-*")
    built.rename(built.with_name(f"{name}-of-before"))

    done = real_parts(*PARTS - {"jaeger"})

    assert "1 real programs are built" in done.stderr
    assert built.exists()
    assert parts.find(name).resolve() == built


def test_for_unit_tests_nothing_is_built(cache: Path) -> None:
    done = real_parts("--tests", "tests/unit/test_repository.py")

    assert (done.returncode, done.stderr) == (0, "")
    assert not cache.exists()


def test_for_other_tests_what_their_module_and_their_fixtures_start_is_built(cache: Path) -> None:
    assert needed("tests/e2e/test_trace.py") == {"kube-apiserver", "kubectl", "jaeger"}


@pytest.mark.slow
def test_for_tests_of_the_kernel_what_they_are_held_against_is_built() -> None:
    assert needed("tests/kernel/test_lab.py", "tests/kernel/test_nftables_packets.py") == set()
    assert needed("tests/kernel/test_iptables_kubeproxy.py") >= {"kube-proxy"}
    assert needed("tests/no_such_file.py") == PARTS


def test_the_program_that_chooses_knows_all_of_them() -> None:
    text = (REPOSITORY / "tools" / "real-parts").read_text()
    (names,) = [line.partition("=")[2].strip('"').split() for line in text.splitlines() if line.startswith("all=")]

    assert set(names) == PARTS
    assert parts.SCRIPT.stat().st_mode & stat.S_IXUSR
