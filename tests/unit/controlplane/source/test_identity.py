"""Which cluster this is: the UID of kube-system, or what a file says; not known is no failure."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from aiohttp import web

from controlplane.source.api import connect
from controlplane.source.cluster_file import FILE, in_folder
from controlplane.source.identity import Identity, uid_of
from tests.unit.controlplane.source.apiserver import Answer, ApiServer, status
from tests.unit.controlplane.source.following import kubeconfig

UID = "8c2b9a54-6f1b-4c0e-9a53-1f0c6f2f7c11"


def namespace(uid: str) -> Answer:
    async def answer(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        return web.json_response({"metadata": {"name": "kube-system", "uid": uid}})

    return answer


async def asked(tmp_path: Path, server: ApiServer, tries: int) -> tuple[list[str], int]:
    """What was found, and how often the server was asked while so many more tries were waited for."""
    found: list[str] = []
    pauses: list[float] = []
    enough = asyncio.Event()

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) > tries:
            enough.set()
            await asyncio.Event().wait()

    api = await connect(kubeconfig(tmp_path, server.url))
    identity = Identity(api, found.append, sleep)
    await identity.ask()
    run = asyncio.create_task(identity.run())
    done = asyncio.create_task(enough.wait())
    await asyncio.wait([run, done], timeout=1.0, return_when=asyncio.FIRST_COMPLETED)
    for task in (run, done):
        task.cancel()
    await asyncio.gather(run, done, return_exceptions=True)
    await api.close()
    return found, len(pauses)


async def test_it_is_the_uid_of_kube_system(tmp_path: Path, server: ApiServer) -> None:
    server.then(namespace(UID))
    assert await asked(tmp_path, server, 3) == ([UID], 0)
    assert server.paths[0] == "/api/v1/namespaces/kube-system"


@pytest.mark.parametrize("code", [403, 404])
async def test_a_refusal_is_told_once_and_final(
    tmp_path: Path, server: ApiServer, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    server.then(status(code))
    assert await asked(tmp_path, server, 3) == ([], 0)
    assert caplog.text.count("which cluster this is cannot be told") == 1
    if code == 403:
        assert "grant get on namespaces/kube-system" in caplog.text


async def test_a_server_that_is_away_is_asked_again(tmp_path: Path, server: ApiServer) -> None:
    server.then(status(503), status(500), namespace(UID))
    assert await asked(tmp_path, server, 5) == ([UID], 2)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"metadata":{"uid":"a b"}}', b'{"metadata":{}}'])
def test_an_answer_without_a_usable_uid_is_none(body: bytes) -> None:
    assert uid_of(body) == ""


def test_a_folder_says_it_in_a_file(tmp_path: Path) -> None:
    assert in_folder(tmp_path) == ""
    (tmp_path / FILE).write_text("shop-1\n")
    assert in_folder(tmp_path) == "shop-1"


def test_a_file_that_cannot_be_used_is_told_and_ignored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for text in ("", "a b", "x" * 129, "\x1b[2J", "é"):
        (tmp_path / FILE).write_text(text)
        assert in_folder(tmp_path) == ""
    (tmp_path / FILE).unlink()
    os.mkfifo(tmp_path / FILE)
    assert in_folder(tmp_path) == ""
    assert caplog.text.count("which cluster this is cannot be told") == 6
