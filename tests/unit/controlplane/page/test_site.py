"""The page's paths: files for everybody, answers for who has the right, nothing for other sites."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from controlplane.identity.door import Door
from controlplane.identity.flags import Security
from controlplane.identity.peer import Refusal, User, Way
from controlplane.identity.rights import Right, Rights
from controlplane.identity.tokens import Tokens
from controlplane.page import site as site_module
from controlplane.page.http import Request, Response
from controlplane.page.site import HEADERS, POLICY, Site
from tests.browser.fleet import Fleet
from tests.sessions import objects
from tests.unit.controlplane.identity.test_tokens import AUDIENCE, NOW, jwt
from tests.unit.controlplane.inspection.replica import Asked

STATIC = Path(site_module.__file__).parent / "static"
API = ("/api/live", "/api/services", "/api/service", "/api/holders", "/api/explain")


async def whose(token: str) -> User | Refusal:
    """What the API server says of tokens."""
    people = {jwt(sub=name): name for name in ("reader", "nobody")}
    return User(people[token]) if token in people else Refusal("UNAUTHENTICATED", "not-authenticated", "no")


async def has(user: User, right: Right) -> bool:
    return user.name == "reader" and right.verb in {"get", "list", "watch"}


def door() -> Door:
    """With TLS: tokens are asked about."""
    return Door(Security(Way.TLS), Tokens(whose, AUDIENCE, now=lambda: NOW), Rights(has))


def guarded(asked: Asked) -> Site:
    return Site(asked.inspection, door().person, open_to_all=False)


def trusting(asked: Asked) -> Site:
    return Site(asked.inspection, Door().person, open_to_all=True)


def request(path: str, token: str = "", host: str = "127.0.0.1:8080", fetch: str = "", **query: str) -> Request:
    bearer = f"Bearer {jwt(sub=token)}" if token else ""
    headers = {"host": host, "authorization": bearer, "sec-fetch-site": fetch}
    return Request(path, query, {name: value for name, value in headers.items() if value}, "127.0.0.1")


def value(response: Response) -> Any:
    assert response.status == 200, response.body
    return json.loads(response.body)


# ------------------------------------------------------------ who may


async def test_the_files_have_no_data_and_are_everybodys() -> None:
    site = guarded(Asked())
    for path in ("/", "/index.html", "/page.css", "/page.js", "/icon.svg"):
        found = await site(request(path, host="any.example", fetch="cross-site"))
        assert found.status == 200
        assert found.body
    assert (await site(request("/../settings.py"))).status == 404
    assert (await site(request("/api/other"))).status == 404


@pytest.mark.parametrize("path", API)
@pytest.mark.parametrize("token, status", [("", 401), ("stolen", 401), ("nobody", 403)])
async def test_nobody_without_the_right_is_answered(path: str, token: str, status: int) -> None:
    assert (await guarded(Asked())(request(path, token))).status == status


async def test_who_may_read_is_answered_and_who_has_it_is_another_right() -> None:
    asked = Asked()
    site = guarded(asked)

    assert value(await site(request("/api/service", "reader", name="ns/svc-1")))["name"] == "Service ns/svc-1"
    assert value(await site(request("/api/services", "reader")))["names"] == ["ns/svc-1"]
    refused = await site(request("/api/holders", "reader", name="ns/svc-1"))
    assert refused.status == 403
    assert b"reader may not create waits.deltaplane.dev" in refused.body
    stream = await site(request("/api/live", "reader"))
    assert (stream.status, stream.content_type) == (200, "text/event-stream")


async def test_refusals_are_counted_like_those_of_calls() -> None:
    own = door()
    await Site(Asked().inspection, own.person, open_to_all=False)(request("/api/services"))

    counted = {sample.labels["reason"]: sample.value for metric in own.refused.collect() for sample in metric.samples}
    assert counted["no-token"] == 1


async def test_with_certificates_alone_the_page_says_that_tokens_are_not_asked_for() -> None:
    site = Site(Asked().inspection, Door(Security(Way.TLS)).person, open_to_all=False)
    found = await site(request("/api/services", "reader"))

    assert (found.status, b"tokens are not asked for" in found.body) == (401, True)


@pytest.mark.parametrize("fetch", ["cross-site", "same-site"])
async def test_another_site_may_ask_nothing(fetch: str) -> None:
    for site, token in ((guarded(Asked()), "reader"), (trusting(Asked()), "")):
        assert (await site(request("/api/services", token, fetch=fetch))).status == 403


@pytest.mark.parametrize(
    "host, status",
    [
        ("127.0.0.1:80", 200), ("localhost", 200), ("LOCALHOST:1", 200), ("[::1]:80", 200), ("[::1]", 200),
        ("10.0.0.1", 200), ("evil.example:80", 403), ("evil.example", 403), ("", 403), ("127.0.0.1.evil.example", 403),
    ],
)  # fmt: skip
async def test_where_everybody_is_believed_no_name_that_dns_could_lead_here_will_do(host: str, status: int) -> None:
    assert (await trusting(Asked())(request("/api/services", host=host))).status == status


# ------------------------------------------------------------ what is answered


async def test_a_service_is_shown_with_its_endpoints_and_who_has_it() -> None:
    fleet = Fleet(2)
    site = trusting(fleet)
    found = value(await site(request("/api/service", name="ns/svc-1")))
    assert found["endpoints"] == [
        {"address": "10.0.0.1", "ports": "8080/TCP", "conditions": "ready, serving", "node": "node-1", "zone": "zone-1"}
    ]
    assert value(await site(request("/api/holders", name="ns/svc-1"))) == {
        "chosen": 2, "have": 2, "lacking": [], "more": 0, "text": "",
    }  # fmt: skip

    fleet.change(objects.service(1, 9))
    fleet.follow(fleet.sessions[0])
    lacking = value(await site(request("/api/holders", name="ns/svc-1")))
    assert (lacking["have"], [each["node"] for each in lacking["lacking"]]) == (1, ["node-0001"])


async def test_explain_says_what_becomes_of_a_connection() -> None:
    fleet = Fleet(1)
    asked = {"node": "node-0000", "from": "10.244.1.7", "to": "10.96.0.1:80/tcp"}
    found = value(await trusting(fleet)(request("/api/explain", **asked)))

    assert (found["fate"], found["service"]) == ("reaches", "Service ns/svc-1")
    assert [choice[0] for choice in found["choices"]] == ["10.0.0.1:8080"]
    assert all(len(decision) == 3 for decision in found["decisions"])


@pytest.mark.parametrize(
    "path, query, status, text",
    [
        ("/api/service", {}, 400, "name: it is missing"),
        ("/api/service", {"name": "ns/svc-2"}, 404, "near: Service ns/svc-1"),
        ("/api/holders", {"name": "ns/none"}, 404, "there is no Service ns/none"),
        ("/api/explain", {"node": "a", "from": "1.2.3.4"}, 400, "to: it is missing"),
        ("/api/explain", {"node": "a", "from": "1.2.3.4", "to": "nowhere"}, 400, "is not HOST:PORT"),
        ("/api/explain", {"node": "node-0000", "from": "x", "to": "10.96.0.1:80"}, 400, "x"),
        ("/api/explain", {"node": "none", "from": "1.2.3.4", "to": "10.96.0.1:80"}, 404, "none"),
    ],
)
async def test_a_question_that_is_none_is_answered_by_what_is_wrong(
    path: str, query: dict[str, str], status: int, text: str
) -> None:
    found = await trusting(Fleet(1))(request(path, **query))

    assert (found.status, text in found.body.decode()) == (status, True), found.body


async def test_a_hostile_text_is_text_in_json_and_nothing_else() -> None:
    fleet = Fleet(1)
    fleet.follow(fleet.sessions[0], failing="<script>alert(1)</script>")
    site = trusting(fleet)
    stream = (await site(request("/api/live"))).stream
    assert stream is not None
    first = await anext(stream)
    second = await anext(stream)
    await stream.aclose()

    assert first.startswith(b"event: whole\ndata: {")
    (row,) = json.loads(second.split(b"data: ")[1])["rows"]
    assert row["why"] == "svc/ns/svc-1 fails with CONFLICT: <script>alert(1)</script>."


# ------------------------------------------------------------ the files themselves


def test_every_answer_has_a_policy_that_lets_nothing_in_from_elsewhere() -> None:
    assert dict(HEADERS)["Content-Security-Policy"] == POLICY
    assert "default-src 'none'" in POLICY
    assert "unsafe" not in POLICY
    assert not re.search(r"https?:", POLICY)


def test_no_file_names_another_server_or_makes_html_of_text() -> None:
    for path in STATIC.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z]+\.", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
        assert not re.search(r"\son[a-z]+=|style=|<style|javascript:", text), path.name
        assert len(text.splitlines()) < 250


def test_every_element_that_a_script_asks_for_is_in_the_page_and_every_field_has_a_label() -> None:
    page = (STATIC / "index.html").read_text()
    known = set(re.findall(r'id="([\w-]+)"', page))
    asked = {name for path in STATIC.glob("*.js") for name in re.findall(r'byId\("([\w-]+)"\)', path.read_text())}

    assert asked - known == set()
    assert len(re.findall(r"<input", page)) == len(re.findall(r"<label>[^<]*<input", page))


def test_the_nodes_say_that_they_are_as_acknowledged_and_where_the_kernel_is_read() -> None:
    nodes = (STATIC / "index.html").read_text().partition('<h2 id="nodes"')[2].partition("</section>")[0]
    assert "what each node has acknowledged" in nodes
    assert "at the agent's own socket" in nodes


def test_all_files_together_are_light() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < 40_000
