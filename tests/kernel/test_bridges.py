"""Pods on a bridge whose packets pass by the rules: one warning, that names module and setting."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from nodeagent.node import bridges
from nodeagent.node.bridges import SETTINGS, Bridges
from tools.lab.netns import Namespace, create, delete

pytestmark = pytest.mark.kernel


@pytest.fixture
def space() -> Iterator[Namespace]:
    """With a bridge that has no ports."""
    made = create("bridged")
    ip(made, "link add cni0 type bridge")
    yield made
    delete(made)


@pytest.fixture
def sysctls(tmp_path: Path) -> Path:
    """As br_netfilter shows its settings: both on."""
    for name in SETTINGS:
        (tmp_path / name).write_text("1\n")
    return tmp_path


def ip(space: Namespace, arguments: str) -> None:
    subprocess.run(["ip", "-n", space.name, *arguments.split()], check=True)


def join(space: Namespace) -> None:
    ip(space, "link add veth-pod type veth peer name eth0")
    ip(space, "link set veth-pod master cni0")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("off", [SETTINGS[:1], SETTINGS[1:], SETTINGS, ()])
def test_a_port_of_a_bridge_is_told_once_where_a_setting_is_off(
    space: Namespace, sysctls: Path, off: tuple[str, ...], early: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for name in off:
        (sysctls / name).write_text("0\n")
    if early:
        join(space)
    with space.entered():
        found = Bridges(sysctls)
    with closing(found):
        found.hear()
        assert found.told is bool(off and early)
        if not early:
            join(space)
            found.hear()
        ip(space, "link set veth-pod up")
        found.hear()
    lines = told(caplog)
    assert len(lines) == bool(off)
    for line in lines:
        assert "veth-pod" in line
        assert "br_netfilter" in line
        assert [f"net.bridge.{name}=1" in line for name in SETTINGS] == [name in off for name in SETTINGS]


def test_without_the_module_both_settings_are_named(
    space: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    join(space)
    with space.entered():
        found = Bridges(tmp_path / "absent")
    with closing(found):
        found.hear()
    (line,) = told(caplog)
    assert all(name in line for name in SETTINGS)


def test_links_that_are_no_ports_of_a_bridge_say_nothing(
    space: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with space.entered():
        found = Bridges(tmp_path / "absent")
    with closing(found):
        ip(space, "link add veth-pod type veth peer name eth0")
        ip(space, "link set cni0 up")
        found.hear()
    assert told(caplog) == []


async def test_watching_ends_with_its_task_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not it has something to say, or can listen at all."""

    def broken(*_: object) -> None:
        raise OSError(93, "no")

    for patched in (False, True):
        if patched:
            monkeypatch.setattr(Bridges, "__init__", broken)
        task = asyncio.create_task(bridges.watch())
        done, _ = await asyncio.wait([task], timeout=0.1)
        assert not done
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
