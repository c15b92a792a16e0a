"""tools/cold: what it takes for a machine that was not made ready, and what it leaves when it cannot begin."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.needs import PARTS
from tools.guest import machine
from tools.lab import parts
from tools.programs import REPOSITORY

SCRIPT = REPOSITORY / "tools" / "cold"


def lacking() -> re.Pattern[str]:
    """The skipped tests that make a run there fail."""
    (pattern,) = re.findall(r"^LACKING='(.*)'$", SCRIPT.read_text(), re.MULTILINE)
    return re.compile(pattern)


def skipped(reason: str) -> str:
    return f"SKIPPED [1] tests/e2e/conftest.py:67: {reason}"


def test_a_test_that_is_skipped_for_want_of_a_program_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DELTAPLANE_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nowhere:/bin:/usr/bin")
    parts.folder.cache_clear()
    monkeypatch.setattr("shutil.which", lambda *_, **__: None)
    reasons = [machine.unavailable(), "network namespaces need root on Linux"]
    with pytest.raises(parts.PartMissing) as unbuilt:
        parts.find("kubectl")
    with pytest.raises(parts.PartMissing) as uninstalled:
        parts.installed("etcd")
    (parts.folder()).mkdir(parents=True)
    (parts.folder() / "jaeger.failed").write_text("no compiler\n")
    with pytest.raises(parts.PartMissing) as failed:
        parts.find("jaeger")
    parts.folder.cache_clear()

    reasons += [str(seen.value) for seen in (unbuilt, uninstalled, failed)]
    assert [reason for reason in reasons if not lacking().match(skipped(reason))] == []


def test_what_this_kernel_cannot_do_is_no_reason_to_fail() -> None:
    reasons = [
        "runs inside the guest: make test-vm",
        "this machine has not both of iptables and ipvs",
        "this kernel has ip_vs",
    ]

    assert [reason for reason in reasons if lacking().match(skipped(reason))] == []


def chosen() -> list[str]:
    """The tests of the short run."""
    (few,) = re.findall(r'^FEW="(.*?)"$', SCRIPT.read_text(), re.MULTILINE | re.DOTALL)
    return str(few).split()


def test_every_test_that_the_short_run_chooses_exists_and_they_are_of_every_tier() -> None:
    few = chosen()

    assert [name for name in few if not (REPOSITORY / name).exists()] == []
    assert {name.split("/")[1] for name in few} >= {"unit", "sessions", "flows", "kernel", "e2e"}


@pytest.mark.slow
def test_the_tests_of_the_short_run_together_need_every_part() -> None:
    command = [sys.executable, "-m", "tests.needs", *chosen()]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == PARTS


def test_it_refuses_what_it_does_not_know_before_it_makes_anything(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "DELTAPLANE_COLD_DIR": str(tmp_path)}
    for arguments in (["--unknown"], ["--ref", "no-such-commit"]):
        done = subprocess.run([SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False)

        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert list(tmp_path.iterdir()) == []
