"""Processes of this network namespace, from a /proc made up here."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.doctor import BadInput, process
from nodeagent.doctor.facts import Process


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """The caller, a kube-proxy in a container, and another node's."""
    for name, network, words in (
        ("self", "net:[1]", "doctor"), ("8", "net:[2]", "kube-proxy\0--v=9"),
        ("9", "net:[1]", "/usr/local/bin/kube-proxy\0--config=/etc/kp.conf\0--hostname-override=a\0"),
    ):  # fmt: skip
        folder = tmp_path / name
        for each in ("ns", "fd", "net", "root/etc"):
            (folder / each).mkdir(parents=True)
        (folder / "ns/net").symlink_to(network)
        (folder / "cmdline").write_text(words)
    (tmp_path / "9/fd/3").symlink_to("socket:[77]")
    (tmp_path / "self/net/tcp").write_text(
        "sl local rem st a b c d e inode\n"
        "0: 00000000:2810 00000000:0000 0A 0:0 0:0 0 0 0 77 1\n1: 00000000:0016 00000000:0000 0A 0:0 0:0 0 0 0 78 1\n"
    )
    return tmp_path


def test_kube_proxys_file_is_read_where_its_container_has_it(proc: Path) -> None:
    (proc / "9/root/etc/kp.conf").write_text("kind: x")

    found = process.kube_proxy(proc)

    assert found is not None
    assert (found.origin, found.file, found.file_name) == ("process 9 (kube-proxy)", "kind: x", "/etc/kp.conf")
    assert found.arguments == ("--config=/etc/kp.conf", "--hostname-override=a")


def test_a_file_that_cannot_be_read_is_named_with_the_reason(proc: Path) -> None:
    with pytest.raises(BadInput, match=r"process 9 \(kube-proxy\), /etc/kp.conf: No such file"):
        process.kube_proxy(proc)


def test_ports_are_named_with_the_program_that_has_them(proc: Path) -> None:
    assert process.listening(proc) == {10256: "kube-proxy", 22: ""}


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (("/usr/bin/python3", "/usr/bin/deltaplane", "agent", "--server=a"), "deltaplane agent"),
        (("/opt/deltaplane", "controlplane"), "deltaplane controlplane"),
        (("python3", "-c", "from deltaplane.cli import main", "agent"), "deltaplane agent"),
        (("/usr/bin/python3", "/opt/agent.py"), "python3"),
        (("/opt/deltaplane", "doctor"), "deltaplane"),
        ((), ""),
    ],
)
def test_a_part_of_deltaplane_is_named_and_not_the_python_that_runs_it(words: tuple[str, ...], name: str) -> None:
    assert Process(1, words).program == name


@pytest.mark.parametrize(
    ("words", "name"),
    [(("--config=a", "--config=b"), "b"), (("--config", "c"), "c"), (("--config",), ""), (("--v=1",), "")],
)
def test_the_file_is_the_one_that_the_command_line_names_last(words: tuple[str, ...], name: str) -> None:
    assert process.config_name(words) == name
