"""Certificates and authorities that change while the program runs, against a TLS server and files of openssl."""

from __future__ import annotations

import asyncio
import base64
import ssl
import subprocess
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from kubernetes.aio.config import incluster_config

from controlplane.source.api import Api, connect
from controlplane.source.kubernetes import RESOURCES
from controlplane.source.reflector import Reflector
from deltaplane.model import Kind
from tests.unit.controlplane.source.apiserver import Answer, ApiServer, added, bookmark, service, watch
from tests.unit.controlplane.source.following import Run, until


def _openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


class Authority:
    """A CA, and what it signs; all in one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self.name, self.certificate = folder, name, folder / f"{name}.crt"
        self._key = folder / f"{name}.key"
        files = ("-keyout", str(self._key), "-out", str(self.certificate))
        _openssl("req", "-x509", *_KEY, *files, "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign")

    def sign(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of `name`, valid for 127.0.0.1."""
        base = self._folder / f"{self.name}-{name}"
        certificate, key, request, extra = (base.with_suffix(f".{end}") for end in ("crt", "key", "csr", "ext"))
        extra.write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
        _openssl("req", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        signer = ("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial")
        _openssl("x509", "-req", "-in", str(request), *signer, "-extfile", str(extra), "-out", str(certificate))
        return certificate, key

    def server(self) -> ssl.SSLContext:
        """For a server whose clients need a certificate of the same authority if they show one."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(self.certificate))
        context.load_cert_chain(*self.sign("server"))
        context.verify_mode = ssl.CERT_OPTIONAL
        return context


_LIMIT = aiohttp.ClientTimeout(total=10)
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities"), "old")


@pytest.fixture(scope="module")
def new(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authorities"), "new")


class Files:
    """What the client is configured with, in one of three ways."""

    def __init__(self, folder: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._folder, self._way, self._monkeypatch = folder, way, monkeypatch
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.crt", "tls.crt", "tls.key"))

    def write(self, url: str, authority: Authority) -> str | None:
        """The argument for `connect`."""
        self.authority.write_bytes(authority.certificate.read_bytes())
        if self._way == "pod":
            self._pod(url)
            return None
        embedded = base64.b64encode(self.authority.read_bytes()).decode()
        said = {"certificate-authority-data": embedded}
        return self._config(
            url, said if self._way == "embedded" else {"certificate-authority": "ca.crt"}, {"token": "t"}
        )

    def show(self, url: str, pair: tuple[Path, Path]) -> str:
        self.certificate.write_bytes(pair[0].read_bytes())
        self.key.write_bytes(pair[1].read_bytes())
        user = {"client-certificate": "tls.crt", "client-key": "tls.key"}
        return self._config(url, {"certificate-authority": "ca.crt"}, user)

    def _config(self, url: str, cluster: dict[str, str], user: dict[str, str]) -> str:
        content = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
            "clusters": [{"name": "k", "cluster": {"server": url, **cluster}}],
            "users": [{"name": "u", "user": user}],
        }
        path, text = self._folder / "kubeconfig", yaml.safe_dump(content)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
        return str(path)

    def _pod(self, url: str) -> None:
        token = self._folder / "token"
        token.write_text("t\n")
        self._monkeypatch.setattr(incluster_config, "SERVICE_CERT_FILENAME", str(self.authority))
        self._monkeypatch.setattr(incluster_config, "SERVICE_TOKEN_FILENAME", str(token))
        self._monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
        self._monkeypatch.setenv("KUBERNETES_SERVICE_PORT", url.rsplit(":", 1)[1])


def _start(api: Api) -> tuple[Run, asyncio.Task[None]]:
    run = Run()
    resource = RESOURCES[Kind.SERVICE]
    run.reflector = Reflector(Kind.SERVICE, resource, api, run.recorder, run.recorder, sleep=_pause)
    return run, asyncio.create_task(run.reflector.run())


async def _pause(seconds: float) -> None:
    await asyncio.sleep(min(seconds, 0.02))


async def _end(task: asyncio.Task[None], api: Api) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await api.close()


@pytest.mark.parametrize("way", ["file", "embedded", "pod"])
async def test_a_new_authority_is_taken_in(
    way: str, old: Authority, new: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, before, after = Files(tmp_path, way, monkeypatch), ApiServer(), ApiServer()
    before.then(watch(added(service("a")), bookmark("5", end=True), hold=True))
    after.then(watch(added(service("b", version="6")), hold=True))
    async with before.running(old.server()):
        api = await connect(files.write(before.url, old))
        run, task = _start(api)
        await run.recorder.until(lambda: run.recorder.names == {"a"})
    try:
        async with after.running(new.server(), int(before.url.rsplit(":", 1)[1])):
            await until(lambda: "CERTIFICATE_VERIFY_FAILED" in run.reflector.failure)
            assert after.queries == []
            files.write(after.url, new)
            await run.recorder.until(lambda: run.recorder.names == {"a", "b"})
            assert run.reflector.failure == ""
    finally:
        await _end(task, api)


def _names(server: ApiServer, seen: list[str], *answers: Answer) -> None:
    """Notes by which name the client is known."""

    def noting(answer: Answer) -> Answer:
        async def noted(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
            assert request.transport is not None
            shown: Any = request.transport.get_extra_info("peercert")
            seen.append(dict(pair for part in shown["subject"] for pair in part)["commonName"])
            return await answer(request, stop)

        return noted

    server.then(*map(noting, answers))


async def test_a_new_client_certificate_is_shown_and_half_of_one_is_not(
    old: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    files, server, seen = Files(tmp_path, "file", monkeypatch), ApiServer(), list[str]()
    first, second = old.sign("first"), old.sign("second")
    async with server.running(old.server()):
        files.write(server.url, old)
        api = await connect(files.show(server.url, first))
        _names(server, seen, *[watch(bookmark("5", end=True))] * 3)
        await _once(api)
        files.certificate.write_bytes(second[0].read_bytes())
        await _once(api)
        files.key.write_bytes(second[1].read_bytes())
        await _once(api)
        await api.close()
    assert seen == ["first", "first", "second"]
    assert caplog.text.count("credentials stay as they were") == 1


async def _once(api: Api) -> None:
    async for _ in api.lines(RESOURCES[Kind.SERVICE], {"watch": "true"}, _LIMIT):
        pass


async def test_a_watch_that_works_outlives_the_change_and_its_connections_end_with_it(
    old: Authority, new: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, server, more = Files(tmp_path, "file", monkeypatch), ApiServer(), asyncio.Event()

    async def answer(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"1\n")
        await more.wait()
        await response.write(b"2\n")
        return response

    server.then(answer)
    async with server.running(old.server()):
        api = await connect(files.write(server.url, old))
        transport, lines = api.transport, list[bytes]()
        async for some in api.lines(RESOURCES[Kind.SERVICE], {"watch": "true"}, _LIMIT):
            lines += some
            if some == [b"1"]:
                files.write(server.url, new)
                await api.refresh()
                more.set()
        assert lines == [b"1", b"2"]
        assert api.transport is not transport
        assert transport.pool_manager.closed
        await api.close()


async def test_files_that_are_as_they_were_cost_no_new_connection(
    old: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = Files(tmp_path, "file", monkeypatch)
    api = await connect(files.write("https://127.0.0.1:1", old))
    transport = api.transport
    files.write("https://127.0.0.1:1", old)
    await api.refresh()
    assert api.transport is transport
    await api.close()


LATER = datetime(9998, 1, 1)  # noqa: DTZ001 - without a zone, as the package counts


async def test_a_token_that_cannot_be_read_leaves_the_one_before(
    old: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, server = Files(tmp_path, "pod", monkeypatch), ApiServer()
    server.then(*[watch(bookmark("5", end=True))] * 2)
    async with server.running(old.server()):
        api = await connect(files.write(server.url, old))
        await _once(api)
        (tmp_path / "token").unlink()
        clock = SimpleNamespace(timedelta=timedelta, datetime=SimpleNamespace(now=lambda: LATER))
        monkeypatch.setattr(incluster_config, "datetime", clock)
        await _once(api)
        await api.close()
    assert [headers["Authorization"] for headers in server.headers] == ["bearer t"] * 2
