"""The reflector and the source against a small API server on loopback."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controlplane.cluster import WATCHED
from controlplane.errors import SourceError
from controlplane.source.kubernetes import KubernetesSource
from controlplane.source.limits import Limits
from deltaplane.model import Kind, ObjectKey
from tests.unit.controlplane.source.apiserver import (
    ApiServer,
    added,
    bookmark,
    deleted,
    error,
    gone,
    modified,
    page,
    service,
    status,
    watch,
)
from tests.unit.controlplane.source.following import following, kubeconfig, until
from tests.unit.controlplane.source.recorder import Recorder

SHORT = Limits(idle=0.2, page=5.0)


def _config(server: str, authority: str = "", users: str = "users: [{name: u, user: {token: t}}]") -> str:
    cluster = f"{{server: '{server}', certificate-authority-data: '{authority}'}}"
    contexts = "current-context: c\ncontexts: [{name: c, context: {cluster: k, user: u}}]\n"
    return f"{contexts}clusters: [{{name: k, cluster: {cluster}}}]\n{users}\n"


async def test_a_watch_list_is_one_replace_and_then_updates(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(
            added(service("a")),
            added(service("b")),
            bookmark("5", end=True),
            modified(service("a", "10.96.0.9", "6")),
            deleted(service("b", version="7")),
            hold=True,
        )
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.addresses == {"a": bytes([10, 96, 0, 9])})
        ((kind, facts, version),) = run.recorder.replaces
        assert (kind, len(facts), version) == (Kind.SERVICE, 2, "5")
        assert all(fact.event_unix_nano == 0 for fact in facts)
        assert run.recorder.synced_kinds == [Kind.SERVICE]
        assert [fact.resource_version for fact in run.recorder.changes] == ["6", "7"]
        assert all(fact.event_unix_nano > 0 for fact in run.recorder.changes)
    (query,) = server.queries
    assert 300 <= int(query.pop("timeoutSeconds")) <= 600
    assert query == {
        "watch": "true",
        "allowWatchBookmarks": "true",
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "labelSelector": "!service.kubernetes.io/service-proxy-name",
    }
    assert server.headers[0]["Authorization"] == "Bearer secret"


async def test_events_that_arrive_together_are_one_update(server: ApiServer, tmp_path: Path) -> None:
    burst = [modified(service("a", f"10.96.0.{n}", str(n))) for n in range(2, 52)]
    server.then(watch(added(service("a")), bookmark("1", end=True)), watch(*burst, hold=True))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.addresses == {"a": bytes([10, 96, 0, 51])})
        assert [len(batch) for batch in run.recorder.updates] == [50]


async def test_a_closed_watch_is_resumed_at_the_last_version_seen(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(bookmark("5", end=True)),
        watch(added(service("a", version="6"))),
        watch(bookmark("9")),
    )
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert [query.get("resourceVersion") for query in server.queries] == [None, "5", "6", "9"]
        assert len(run.recorder.replaces) == 1
        assert run.delays == []  # each brought something


async def test_a_watch_that_brings_nothing_is_resumed_after_a_pause(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("5", end=True)), watch(), watch())
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 4)
        assert len(run.delays) == 2


@pytest.mark.parametrize("refusal", [status(410, "too old"), watch(gone())], ids=["http status", "error event"])
async def test_410_is_a_relist_and_never_the_same_version_again(
    server: ApiServer, tmp_path: Path, refusal: Any
) -> None:
    server.then(
        watch(added(service("a")), added(service("b")), bookmark("5", end=True)),
        refusal,
        watch(added(service("a")), added(service("c")), bookmark("8", end=True), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: len(run.recorder.replaces) == 2)
        assert run.recorder.names == {"a", "c"}
        assert run.recorder.updates == []
        assert run.recorder.replaces[1][2] == "8"
        assert all(fact.event_unix_nano > 0 for fact in run.recorder.replaces[1][1])
        assert [query.get("resourceVersion") for query in server.queries] == [None, "5", None]
        assert len(run.delays) == 1
        assert run.reflector.failure == ""


async def test_events_before_a_410_are_not_lost(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(bookmark("5", end=True)), watch(added(service("a", version="6")), gone()))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.updates)
        assert run.recorder.names == {"a"}


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(status(400), id="unknown"),
        pytest.param(status(422, "sendInitialEvents is forbidden"), id="switched off"),
        pytest.param(watch(error(500, "", "the required storage feature is disabled")), id="etcd cannot"),
    ],
)
async def test_a_server_without_watch_lists_is_listed_by_pages(server: ApiServer, tmp_path: Path, refusal: Any) -> None:
    server.then(
        refusal,
        page(service("a"), version="5", token="next"),
        page(service("b"), version="5"),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.replaces)
        assert run.recorder.names == {"a", "b"}
        assert run.delays == []
        await until(lambda: len(server.queries) == 4)
        selector = {"labelSelector": "!service.kubernetes.io/service-proxy-name"}
        assert server.queries[1] == {"limit": "500", **selector}
        assert server.queries[2] == {"limit": "500", "continue": "next", **selector}
        assert server.queries[3]["resourceVersion"] == "5"


async def test_an_expired_continue_token_is_a_whole_list(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        status(422),
        page(service("a"), token="next"),
        status(410),
        page(service("a"), service("b"), version="9"),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.replaces)
        assert run.recorder.names == {"a", "b"}
        assert "limit" not in server.queries[3]
        assert "continue" not in server.queries[3]


async def test_a_watch_list_that_never_ends_its_list_is_replaced_by_pages(server: ApiServer, tmp_path: Path) -> None:
    server.then(watch(added(service("a"))), page(service("b"), version="5"))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.replaces)
        assert run.recorder.names == {"b"}
        assert server.queries[1]["limit"] == "500"


async def test_a_silent_watch_is_dropped_and_resumed(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(added(service("a")), bookmark("5", end=True), hold=True),
        watch(added(service("b", version="6")), hold=True),
    )
    async with following(server, tmp_path, SHORT) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a", "b"})
        assert server.queries[1]["resourceVersion"] == "5"
        assert len(run.recorder.replaces) == 1
        assert run.reflector.failure == ""


async def test_where_watches_stay_silent_a_list_brings_what_they_did_not(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(added(service("a")), bookmark("5", end=True), hold=True),
        watch(hold=True),
        watch(hold=True),
        watch(added(service("a")), added(service("b", version="6")), bookmark("6", end=True), hold=True),
    )
    async with following(server, tmp_path, SHORT) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a", "b"})
        assert [query.get("resourceVersion") for query in server.queries[:4]] == [None, "5", "5", None]
        assert run.reflector.failure == ""


async def test_an_unusable_object_is_reported_and_its_last_good_state_stays_over_a_relist(
    server: ApiServer, tmp_path: Path
) -> None:
    bad = service("a", version="6", ports="none")
    where = "Service shop/a"
    server.then(
        watch(added(service("a")), bookmark("5", end=True)),
        watch(modified(bad), added(service("b", "10.96.0.2", "7")), gone()),
        watch(added(bad), bookmark("8", end=True)),
        watch(modified(service("a", "10.96.0.3", "9")), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: len(run.recorder.replaces) == 2)
        assert run.addresses == {"a": bytes([10, 96, 0, 1])}
        await run.recorder.until(lambda: not run.recorder.problems)
        assert run.recorder.reports == [(where, "spec.ports: expected array | null, got str"), (where, "")]
        await run.recorder.until(lambda: run.addresses == {"a": bytes([10, 96, 0, 3])})


async def test_an_unusable_object_in_a_page_does_not_spoil_the_others(server: ApiServer, tmp_path: Path) -> None:
    server.then(status(422), page(service("a", ports="none"), service("b"), service("c", "10.96"), version="5"))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.replaces)
        assert run.recorder.names == {"b"}
        assert set(run.recorder.problems) == {"Service shop/a", "Service shop/c"}


async def test_a_reported_object_that_is_deleted_is_no_longer_reported(server: ApiServer, tmp_path: Path) -> None:
    bad = service("a", version="6", ports=[{"port": 0}])
    server.then(
        watch(added(bad), bookmark("5", end=True)), watch(deleted(service("a", version="7", ports="none")), hold=True)
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.updates)
        assert run.recorder.problems == {}
        assert run.recorder.changes[0].key == ObjectKey(Kind.SERVICE, "shop", "a")
        assert run.recorder.changes[0].object is None


@pytest.mark.parametrize("line", [b"{nonsense\n", b'{"type": "ADDED", "object": {}}\n', b"[1]\n"])
async def test_a_malformed_event_is_a_relist(server: ApiServer, tmp_path: Path, line: bytes) -> None:
    server.then(
        watch(bookmark("5", end=True)),
        watch(added(service("a", version="6")), line, hold=True),
        watch(added(service("b")), bookmark("8", end=True), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: len(run.recorder.replaces) == 2)
        assert run.recorder.names == {"b"}
        assert "resourceVersion" not in server.queries[2]
        assert len(run.delays) == 1


async def test_an_event_cut_off_by_the_end_is_asked_for_again(server: ApiServer, tmp_path: Path) -> None:
    server.then(
        watch(bookmark("5", end=True)),
        watch(bookmark("6"), b'{"type": "ADDED", "obj'),
        watch(added(service("a", version="7")), hold=True),
    )
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a"})
        assert server.queries[2]["resourceVersion"] == "6"


@pytest.mark.parametrize(
    "code, text",
    [
        (401, "401, the credentials in kubeconfig"),
        (403, "403, permission is missing: grant get, list and watch on services in API group"),
        (404, "404, the server does not serve /api/v1/services"),
        (500, "HTTP status 500"),
    ],
)
async def test_a_refusal_says_what_to_do_and_is_tried_again(
    server: ApiServer, tmp_path: Path, code: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    good = watch(added(service("a")), bookmark("5", end=True), hold=True)
    if code == 500:  # it may be the streamed list that fails, so pages are tried at once, and then until they work
        server.then(status(code, "no"), status(code, "no"), status(code, "no"), page(service("a"), version="5"))
    else:
        server.then(status(code, "no"), status(code, "no"), good)
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a"})
        assert len(run.delays) == 2
        assert run.reflector.failure == ""
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert text in warnings[0]
    assert server.url in warnings[0]


@pytest.mark.parametrize(("message", "advice"), [
    ('services "web" is forbidden: exceeded quota: q, requested: count/services=1', "its admission"),
    ('admission webhook "a.example.com" denied the request: no', "its admission"),
    ('services is forbidden: User "alice" cannot list resource "services" in API group ""', "grant"),
])  # fmt: skip
async def test_a_403_of_admission_is_no_missing_right(
    server: ApiServer, tmp_path: Path, message: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    server.then(status(403, message), watch(added(service("a")), bookmark("5", end=True), hold=True))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.names == {"a"})
    (said,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert [word for word in ("grant", "its admission") if word in said] == [advice]


async def test_a_rotated_token_is_read_after_a_401(server: ApiServer, tmp_path: Path) -> None:
    refusal = status(401)

    async def refuse(request: web.Request, stop: asyncio.Event) -> web.StreamResponse:
        kubeconfig(tmp_path, server.url, "newer")
        return await refusal(request, stop)

    async with following(server, tmp_path) as run:
        server.then(refuse, watch(bookmark("5", end=True), hold=True))
        await run.recorder.until(lambda: run.recorder.synced_kinds)
    assert [headers["Authorization"] for headers in server.headers] == ["Bearer secret", "Bearer newer"]


async def test_the_server_may_ask_for_more_patience(server: ApiServer, tmp_path: Path) -> None:
    server.then(status(429, headers={"Retry-After": "7"}), watch(bookmark("5", end=True), hold=True))
    async with following(server, tmp_path) as run:
        await run.recorder.until(lambda: run.recorder.synced_kinds)
        assert run.delays == [7.0]


@pytest.mark.parametrize(
    "refusal",
    [
        status(503, headers={"Retry-After": "86400"}),
        status(503, headers={"Retry-After": "Fri, 31 Dec 9999 23:59:59 GMT"}),
        status(429, details={"retryAfterSeconds": 86400}),
    ],
    ids=["seconds", "date", "status"],
)
async def test_no_server_can_ask_for_more_than_half_a_minute(server: ApiServer, tmp_path: Path, refusal: Any) -> None:
    server.then(watch(bookmark("5", end=True)), refusal, watch(bookmark("6"), hold=True))
    async with following(server, tmp_path) as run:
        await until(lambda: len(server.queries) == 3)
        assert run.delays == [30.0]


async def test_an_unreachable_server_is_named_and_tried_again(tmp_path: Path) -> None:
    server = ApiServer()
    async with server.running():
        pass
    async with following(server, tmp_path) as run:
        await until(lambda: len(run.delays) >= 3)
        assert run.reflector.failure.startswith(f"cannot watch services at API server {server.url}: ")
        assert run.reflector.failure.endswith("kubeconfig")
        assert "\n" not in run.reflector.failure


async def test_the_source_follows_every_kind(server: ApiServer, tmp_path: Path) -> None:
    server.then(status(404), *[watch(bookmark("5", end=True), hold=True)] * len(Kind))  # which cluster; each kind
    recorder = Recorder()
    source = KubernetesSource(kubeconfig(tmp_path, server.url), recorder, recorder)
    task = asyncio.create_task(source.run())
    await recorder.until(lambda: len(recorder.synced_kinds) == len(Kind))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert set(recorder.synced_kinds) == WATCHED == set(Kind)
    assert source.failures == {}


@pytest.mark.parametrize(
    "content, text",
    [
        (None, "cannot read kubeconfig {}: No such file or directory"),
        ("clusters: [", "kubeconfig {} is not YAML: "),
        ("", "kubeconfig {} has no clusters"),
        ("clusters: [{name: a}]\n", "kubeconfig {} is not usable: "),
        (
            _config("https://x", users=""),
            "kubeconfig {} is not usable, its current context must name a cl",
        ),
        (_config("ftp://x"), "kubeconfig {}: server 'ftp://x' is not an http or https address"),
        (_config("ftp://u:p@x"), "kubeconfig {}: server 'ftp://***@x' is not an http or https address"),
        (
            _config("https://x', proxy-url: 'http://u:p@[::"),
            "kubeconfig {}: proxy-url 'http://***@[::' is not an http or https address",
        ),
        (_config("https://x", authority="AAAA"), "kubeconfig {}: its certificates cannot be used: "),
    ],
)
async def test_an_unusable_kubeconfig_is_one_line_with_the_file(tmp_path: Path, content: str | None, text: str) -> None:
    path = tmp_path / "config"
    if content is not None:
        path.write_text(content)
    recorder = Recorder()
    with pytest.raises(SourceError) as raised:
        await KubernetesSource(str(path), recorder, recorder).run()
    assert str(raised.value).startswith(text.format(path))
    assert "\n" not in str(raised.value)


async def test_outside_a_cluster_a_kubeconfig_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    recorder = Recorder()
    with pytest.raises(SourceError, match="give --kubeconfig=FILE"):
        await KubernetesSource(None, recorder, recorder).run()
