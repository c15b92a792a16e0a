"""A kind that a server may lack or an account may not read: ServiceCIDRs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltaplane.model import Kind
from tests.unit.controlplane.source.apiserver import ApiServer, added, bookmark, status, watch
from tests.unit.controlplane.source.following import following, until


def _cidr(name: str, *cidrs: str) -> dict[str, Any]:
    return {"kind": "ServiceCIDR", "metadata": {"name": name, "resourceVersion": "5"}, "spec": {"cidrs": list(cidrs)}}


def _said(caplog: pytest.LogCaptureFixture, text: str) -> list[str]:
    return [record.levelname for record in caplog.records if text in record.getMessage()]


async def test_a_server_without_service_cidrs_has_none_and_is_asked_again_seldom_f6(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    found = watch(added(_cidr("kubernetes", "10.96.0.0/12")), bookmark("5", end=True), hold=True)
    server.then(*[status(404)] * 3, found)
    async with following(server, tmp_path, kind=Kind.SERVICE_CIDR) as run:
        await run.recorder.until(lambda: run.recorder.names == {"kubernetes"})
        assert [(len(facts), version) for _, facts, version in run.recorder.replaces] == [(0, ""), (1, "5")]
        assert set(run.recorder.synced_kinds) == {Kind.SERVICE_CIDR}
        assert len(run.delays) == 3
        assert all(30 <= delay <= 60 for delay in run.delays)
    assert _said(caplog, "taken as none") == ["INFO"]
    assert _said(caplog, "cannot follow") == []


async def test_a_server_that_loses_service_cidrs_has_none_again_f6(server: ApiServer, tmp_path: Path) -> None:
    found = watch(added(_cidr("kubernetes", "10.96.0.0/12")), bookmark("5", end=True))
    server.then(found, *[status(404)] * 2, found)
    async with following(server, tmp_path, kind=Kind.SERVICE_CIDR) as run:
        await run.recorder.until(lambda: len(run.recorder.replaces) == 3)
        assert [len(facts) for _, facts, _ in run.recorder.replaces] == [1, 0, 1]
        assert "resourceVersion" not in server.queries[2]


async def test_forbidden_service_cidrs_do_not_hold_up_the_rest_f6(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = watch(added(_cidr("kubernetes", "10.96.0.0/12")), bookmark("5", end=True))
    server.then(*[status(403)] * 3, found, *[status(403)] * 9_999)
    async with following(server, tmp_path, kind=Kind.SERVICE_CIDR) as run:
        await run.recorder.until(lambda: run.recorder.synced_kinds)
        assert run.recorder.state == {}
        await until(lambda: len(server.queries) >= 10)
        assert run.recorder.names == {"kubernetes"}  # what was learnt stays
        assert len(run.recorder.replaces) == 2
        assert "grant get, list and watch on servicecidrs in API group networking.k8s.io" in run.reflector.failure
    assert _said(caplog, "cannot follow") == ["WARNING", "WARNING"]


async def test_an_unexpected_exception_while_none_are_taken_does_not_end_the_reflector(
    server: ApiServer, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = watch(added(_cidr("kubernetes", "10.96.0.0/12")), bookmark("5", end=True), hold=True)
    server.then(status(404), found)
    refuse = iter([KeyError("no room")])
    async with following(server, tmp_path, kind=Kind.SERVICE_CIDR) as run:
        replace = run.recorder.replace

        def once_refused(*arguments: Any) -> None:
            for error in refuse:
                raise error
            replace(*arguments)

        monkeypatch.setattr(run.recorder, "replace", once_refused)
        await run.recorder.until(lambda: run.recorder.names == {"kubernetes"})
    assert _said(caplog, "unforeseen, listing again") == ["ERROR"]
