"""Each address of a name is a server of its own; the last good list is kept on disk, and used where names fail."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deltaplane.frontends import Slot, slot
from deltaplane.model import Protocol
from nodeagent.stream.call import Ended
from nodeagent.stream.client import Client
from nodeagent.stream.last_good import LastGood
from nodeagent.stream.places import Place
from nodeagent.stream.servers import Servers
from nodeagent.stream.state_folder import SERVERS, SERVERS_FRESH
from tests.unit.nodeagent.stream.test_client import PAUSES, Streams, Talk

NAME = "replicas.example"
SAID = f"{NAME}:1"
ONE, TWO = Place("192.0.2.1:1", NAME, SAID), Place("192.0.2.2:1", NAME, SAID)


class Names:
    """In place of the resolver: one answer after another, the last one for ever; empty: none."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)

    async def __call__(self, *_: object, **__: object) -> list[tuple[object, ...]]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise OSError("no answer")
        return [(0, 0, 0, "", (address, 0)) for address in answer]


Resolving = Callable[..., Names]


@pytest.fixture
def resolving(monkeypatch: pytest.MonkeyPatch) -> Resolving:
    def put(*answers: list[str]) -> Names:
        made = Names(*answers)
        monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", lambda *_, **__: made())
        return made

    return put


async def nothing(_: frozenset[Slot]) -> None:
    """Nobody asks what is reserved."""


async def known(folder: Path | None, *said: str) -> Servers:
    servers = Servers(said or [SAID], nothing, None if folder is None else LastGood(folder))
    await servers.begin()
    return servers


async def test_each_address_of_a_name_is_a_server_of_its_own_with_the_names_certificate(resolving: Resolving) -> None:
    resolving(["192.0.2.2", "192.0.2.1", "2001:db8::1"])
    servers = await known(None, SAID, "192.0.2.9:2", "unix:///run/x")

    assert servers.places() == [
        ONE, TWO, Place("[2001:db8::1]:1", NAME, SAID), Place("192.0.2.9:2"), Place("unix:///run/x"),
    ]  # fmt: skip


async def test_a_name_that_never_resolved_is_left_to_grpc(resolving: Resolving) -> None:
    resolving([])
    assert (await known(None)).places() == [Place(SAID)]


async def test_without_names_the_last_good_list_is_used_over_a_restart(resolving: Resolving, tmp_path: Path) -> None:
    resolving(["192.0.2.1", "192.0.2.2"])
    before = await known(tmp_path / "state")
    before.good(ONE)
    resolving([])
    again = await known(tmp_path / "state")

    assert again.places() == [ONE, TWO]
    assert {slot(4, Protocol.TCP, 1, bytes((192, 0, 2, last))) for last in (1, 2)} <= again.slots


async def test_a_list_is_kept_once_a_replica_of_it_has_answered(resolving: Resolving, tmp_path: Path) -> None:
    resolving(["192.0.2.1"])
    servers = await known(tmp_path)
    assert not (tmp_path / SERVERS).exists()
    servers.good(ONE)
    first = (tmp_path / SERVERS).stat()
    servers.good(ONE)

    assert (tmp_path / SERVERS).stat().st_ino == first.st_ino, "an equal list is not written again"
    assert first.st_mode & 0o777 == 0o600
    assert not (tmp_path / SERVERS_FRESH).exists()


async def test_where_no_server_of_the_flag_answers_those_of_the_last_list_are_tried(
    resolving: Resolving, tmp_path: Path
) -> None:
    resolving(["192.0.2.1"])
    (await known(tmp_path)).good(ONE)
    resolving(["192.0.2.2"])
    servers = await known(tmp_path)

    assert servers.places() == [TWO]
    assert servers.places(tired=True) == [TWO, ONE]


async def test_another_flag_is_never_led_to_servers_of_the_last_one(resolving: Resolving, tmp_path: Path) -> None:
    resolving(["192.0.2.1"])
    (await known(tmp_path)).good(ONE)
    resolving([])

    assert (await known(tmp_path, "other.example:1")).places(tired=True) == [Place("other.example:1")]


@pytest.mark.parametrize("spoil", ["cut", "changed", "empty", "large", "no address"])
async def test_a_damaged_list_is_told_and_not_used(
    resolving: Resolving, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: str
) -> None:
    resolving(["192.0.2.1"])
    (await known(tmp_path)).good(ONE)
    content = (tmp_path / SERVERS).read_bytes()
    spoilt = {
        "cut": content[:-4],
        "changed": content.replace(b"192.0.2.1", b"192.0.2.6"),
        "empty": b"",
        "large": content + b" " * 300_000,
        "no address": b'9dd3fd30\n{"replicas.example":["x"]}\n',
    }
    (tmp_path / SERVERS).write_bytes(spoilt[spoil])
    resolving([])

    assert (await known(tmp_path)).places(tired=True) == [Place(SAID)]
    assert "the list of servers is not used" in caplog.text


async def test_a_folder_that_takes_nothing_is_told_once_and_fails_nothing(
    resolving: Resolving, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(["192.0.2.1"])
    servers = await known(tmp_path)
    monkeypatch.setattr(os, "replace", _full)
    servers.good(ONE)
    servers.good(ONE)

    assert [record.levelno for record in caplog.records if "cannot keep" in record.getMessage()] == [logging.WARNING]


def _full(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


# ------------------------------------------------------------ the client


async def dialled(monkeypatch: pytest.MonkeyPatch, servers: Servers, talk: Talk, *ends: Ended) -> list[str]:
    streams = Streams(*ends)
    monkeypatch.setattr("nodeagent.stream.client.Stream", streams)
    monkeypatch.setattr("random.shuffle", lambda _: None)
    task = asyncio.create_task(Client([SAID], talk, pauses=PAUSES, directory=servers).run())  # type: ignore[arg-type]
    async with asyncio.timeout(20.0):
        await streams.open.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return streams.dialled


async def test_the_addresses_of_a_name_are_dialled_in_turn_as_they_are_at_each_attempt(
    resolving: Resolving, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(["192.0.2.1"], ["192.0.2.1"], ["192.0.2.1", "192.0.2.2"])
    servers = await known(None)

    assert await dialled(monkeypatch, servers, Talk(), *[Ended("gone")] * 2) == [
        "192.0.2.1:1", "192.0.2.2:1", "192.0.2.1:1",
    ]  # fmt: skip


async def test_the_last_list_comes_after_every_server_of_the_flag_has_failed(
    resolving: Resolving, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    resolving(["192.0.2.2"])
    (await known(tmp_path)).good(TWO)
    resolving(["192.0.2.1"])
    servers = await known(tmp_path)

    assert await dialled(monkeypatch, servers, Talk(), Ended("gone")) == ["192.0.2.1:1", "192.0.2.2:1"]


async def test_a_goaway_leads_to_an_address_of_the_own_names_and_to_no_other(
    resolving: Resolving, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(["192.0.2.1", "192.0.2.2", "192.0.2.3"])
    servers, talk = await known(None), Talk()
    talk.elsewhere = (0.0, ("203.0.113.1:1", "192.0.2.3:1"))

    assert await dialled(monkeypatch, servers, talk, Ended("go", heard=True)) == ["192.0.2.1:1", "192.0.2.3:1"]
