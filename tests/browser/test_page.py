"""The page in headless Chromium: live at 1,000 nodes, by keyboard alone, dark where wanted, and closed to others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from controlplane.identity.peer import Refusal
from tests.browser.chromium import Tab, browser
from tests.browser.fleet import Fleet, page
from tests.sessions import objects
from tools.lab.parts import PartMissing

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
LIVE = "document.getElementById('connection').textContent == 'live'"
DARK = [{"name": "prefers-color-scheme", "value": "dark"}]
CONTRAST = r"""(() => {
  const part = (each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const light = (text) => {
    const [r, g, b] = text.match(/\d+/g).slice(0, 3).map((each) => part(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const colour = (name) => light(getComputedStyle(document.querySelector(name)).color);
  const back = light(getComputedStyle(document.body).backgroundColor);
  const ratio = (one) => (Math.max(one, back) + 0.05) / (Math.min(one, back) + 0.05);
  return ['body', 'header p', '.good', 'a'].map((name) => ratio(colour(name)));
})()"""


@pytest.fixture
async def tab() -> AsyncIterator[Tab]:
    try:
        async with browser() as opened:
            yield opened
    except PartMissing as error:
        pytest.skip(str(error))


def text(tag: str) -> str:
    return f"document.querySelector('{tag}').innerText"


async def test_nodes_changes_and_lag_are_live_and_the_page_asks_nobody_else(tab: Tab) -> None:
    fleet = Fleet(3)
    fleet.sessions[2].close("UNAVAILABLE", "the stream broke")
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(f"{text('#node-rows')}.includes('the stream broke')")
        assert "1 of 1 shown, of 3 nodes" in await tab.ask(text("#node-count"))
        await tab.until(f"{text('#heat-text')}.includes('1 nodes disconnected')")
        fleet.change(objects.service(1, 5))
        for session in fleet.sessions[:2]:
            fleet.follow(session)
        await tab.until(f"{text('#change-rows')}.includes('Service ns/svc-1')")
        assert "2 nodes, slowest node-000" in await tab.ask(text("#change-rows"))
        assert await tab.ask("document.querySelectorAll('.change .bar i').length") >= 6
        asked = (
            "document.getElementById('heat').getContext('2d').getImageData(0, 0, 2000, 180).data.some((each) => each)"
        )
        assert await tab.ask(asked)

    assert {request.startswith(f"{address}/") for request in tab.requests} == {True}
    assert [line for line in tab.said if "Failed to load" not in line and "ERR_" not in line] == []


async def test_a_hostile_text_is_shown_and_does_nothing(tab: Tab) -> None:
    fleet = Fleet(1)
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(LIVE)
        fleet.change(objects.service(1, 5))
        fleet.follow(fleet.sessions[0], failing=HOSTILE)
        await tab.until(f"{text('#node-rows')}.includes('<script>')")
        await tab.ask("document.getElementById('service-name').value = 'ns/<b onclick=x>'")
        await tab.ask("document.querySelector('#service-form button').click()")
        await tab.until(f"{text('#service-answer')}.includes('<b onclick=x>')")

        assert await tab.ask("document.title") == "Deltaplane"
        assert await tab.ask("document.querySelectorAll('main img, main script, main b[onclick]').length") == 0


async def test_what_is_not_of_this_server_is_kept_out_by_the_policy(tab: Tab) -> None:
    async with page(Fleet(1)) as address:
        await tab.open(f"{address}/")
        await tab.until(LIVE)
        inline = "document.body.append(Object.assign(document.createElement('script'), { text: 'document.title = 1' }))"
        with pytest.raises(AssertionError, match="TrustedScript"):
            await tab.ask(inline)
        with pytest.raises(AssertionError, match="TrustedHTML"):
            await tab.ask("document.body.innerHTML = '<b>x</b>'")
        elsewhere = "fetch('http://127.0.0.2:9/').then(() => 'reached', () => 'kept out')"
        assert await tab.ask(elsewhere) == "kept out"

    assert any("Content Security Policy" in line for line in tab.said)


async def test_everything_is_reached_and_done_by_the_keyboard(tab: Tab) -> None:
    fleet = Fleet(1)
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(LIVE)
        reached = []
        for _ in range(40):
            await tab.press("Tab")
            reached.append(await tab.ask("document.activeElement.id || document.activeElement.name || ''"))
            if reached[-1] == "service-name":
                await tab.write("ns/svc-1")
                await tab.press("Enter", "\r")
            if reached[-1] in {"node", "from", "to"}:
                await tab.write({"node": "node-0000", "from": "10.244.1.7", "to": "10.96.0.1:80"}[reached[-1]])
            if reached[-1] == "to":
                await tab.press("Enter", "\r")
                break
        await tab.until(f"{text('#service-answer')}.includes('1 of 1 nodes have it')")
        await tab.until(f"{text('#explain-answer')}.includes('It reaches an endpoint')")
        outlined = "getComputedStyle(document.activeElement).outlineStyle"
        assert await tab.ask(outlined) == "solid"

    assert {"node-filter", "node-all", "heat", "pause", "service-name", "node", "from", "to"} <= set(reached)


async def test_it_is_dark_where_the_person_wants_it_and_readable_in_both(tab: Tab) -> None:
    async with page(Fleet(1)) as address:
        seen = []
        for features in ([], DARK):
            await tab.command("Emulation.setEmulatedMedia", features=features)
            await tab.open(f"{address}/")
            await tab.until("document.querySelector('.good') !== null")
            assert min(await tab.ask(CONTRAST)) >= 4.5  # WCAG 2, level AA
            seen.append(await tab.ask("getComputedStyle(document.body).backgroundColor"))

    assert seen == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


async def test_a_token_is_asked_for_shown_with_each_question_and_kept_nowhere(tab: Tab) -> None:
    shown: list[str] = []

    async def may(method: str, token: str, client: str) -> Refusal | None:
        shown.append(token)
        return None if token == "mine" else Refusal("UNAUTHENTICATED", "no-token", "no token came with the call")

    async with page(Fleet(1), may) as address:
        await tab.open(f"{address}/")
        await tab.until("document.activeElement.id == 'token-text'")
        assert "no token came with the call" in await tab.ask(text("#token-why"))
        await tab.write("mine")
        await tab.press("Enter", "\r")
        await tab.until(LIVE)
        kept = await tab.ask("[document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)].join()")

    assert kept == ",{},{}"
    assert set(shown) == {"", "mine"}
    assert not any("mine" in request for request in tab.requests)


async def test_a_thousand_nodes_are_shown_at_once_and_found_by_a_word(tab: Tab) -> None:
    fleet = Fleet(1000)
    fleet.sessions[0].close("UNAVAILABLE", "the stream broke")
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(f"{text('#node-count')}.includes('1 of 1 shown, of 1000 nodes')")
        await tab.ask("document.getElementById('node-all').click()")
        await tab.until(f"{text('#node-count')}.includes('200 of 1000 shown')")
        await tab.ask("document.getElementById('node-filter').focus()")
        await tab.write("node-0777")
        await tab.until(f"{text('#node-count')}.includes('1 of 1 shown')")
        assert "node-0777" in await tab.ask(text("#node-rows"))
        assert await tab.ask("document.documentElement.scrollWidth <= innerWidth")
        assert await tab.ask("document.querySelectorAll('*').length") < 5000
