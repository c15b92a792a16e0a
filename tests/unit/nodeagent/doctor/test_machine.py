"""What is read of a node where parts of it cannot be read: the rest is, and what cannot is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import pytest

from nodeagent.doctor import machine, nftables
from nodeagent.errors import AgentError
from nodeagent.linux.errors import KernelUnavailable
from nodeagent.linux.iptables import programs

READERS = {
    "nftables.read": "nftables' rules",
    "_links": "links",
    "tables_there": "iptables-nft's tables",
    "_run": "the version of nft",
    "process.here": "processes",
    "process.listening": "ports in use",
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node with nothing on it: no mode is tried, no program is run, no kernel is asked."""
    ways: dict[str, Any] = {
        "nftables.read": nftables.Nftables, "_links": dict, "tables_there": lambda *_: (),
        "_run": lambda *_: "v1.0", "process.here": lambda _: (), "process.listening": lambda _: {},
    }  # fmt: skip
    for name, way in ways.items():
        monkeypatch.setattr(f"nodeagent.doctor.machine.{name}", way)
    monkeypatch.setattr(machine, "_works", lambda _: "")
    monkeypatch.setattr(programs, "find", lambda *_: "/sbin/save")
    monkeypatch.setattr(programs, "which", lambda program: f"/sbin/{program}")
    monkeypatch.setattr(programs, "legacy_tables", lambda _: set())
    monkeypatch.setattr(machine, "is_there", lambda *_: False)


@pytest.mark.parametrize(
    "error", [PermissionError(1, "Operation not permitted"), KernelUnavailable("no"), AgentError("no")]
)
@pytest.mark.parametrize("reader", READERS)
def test_what_cannot_be_read_is_named_once_and_the_rest_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, reader: str, error: Exception
) -> None:
    def fails(*_: object) -> NoReturn:
        raise error

    monkeypatch.setattr(f"nodeagent.doctor.machine.{reader}", fails)

    found = machine.read(tmp_path)

    assert found.release
    assert [line.rpartition(": ")[0] for line in found.unread].count(READERS[reader]) == 1


def test_a_node_that_can_be_read_leaves_nothing_unread(tmp_path: Path) -> None:
    found = machine.read(tmp_path)

    assert found.unread == ()
    assert found.versions == {"nft": "1.0", "iptables-nft": "1.0", "iptables-legacy": "1.0"}
