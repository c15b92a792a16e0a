"""The page in headless Chromium: live at 1,000 nodes, by keyboard alone, dark where wanted, and closed to others."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import pytest

from controlplane.facts import Fact
from controlplane.identity.peer import Refusal
from deltaplane.v1 import delta_pb2 as pb
from tests.browser.chromium import Tab, browser
from tests.browser.fleet import Fleet, page
from tests.sessions import objects
from tools.lab.parts import PartMissing

pytestmark = pytest.mark.slow
HOSTILE = "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
LIVE = "document.getElementById('connection').textContent == 'live'"
SLIDER = "document.getElementById('heat')"
TREE = "['role', 'aria-labelledby', 'tabindex'].map((name) => document.getElementById('heat').getAttribute(name))"
# How many pixels of the newest column are painted in the top row of the heat map, and in the lowest.
HEIGHTS = """(() => {
  const canvas = document.getElementById('heat'), rows = document.querySelectorAll('#heat-labels li').length;
  const high = canvas.height / rows, pen = canvas.getContext('2d');
  const painted = (row) => {
    const data = pen.getImageData(canvas.width - 1, Math.round(row * high), 1, Math.floor(high)).data;
    return [...data].filter((_, at) => at % 4 == 3).filter((alpha) => alpha > 0).length;
  };
  return [painted(0), painted(rows - 1)];
})()"""
DARK = [{"name": "prefers-color-scheme", "value": "dark"}]
# Of every text that is shown, and of what is written into an empty field, on what is behind it (WCAG 2, 1.4.3); of each
# colour of the heat map and of the waterfall (1.4.11).
CONTRAST = r"""(() => {
  const part = (each) => (each <= 0.03928 ? each / 12.92 : ((each + 0.055) / 1.055) ** 2.4);
  const light = (text) => {
    const [r, g, b] = text.match(/\d+/g).slice(0, 3).map((each) => part(each / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  const behind = (each) => {
    for (; each; each = each.parentElement) {
      const colour = getComputedStyle(each).backgroundColor;
      if (!colour.endsWith(', 0)')) return light(colour);
    }
  };
  const own = (each) => [...each.childNodes].some((one) => one.nodeType == 3 && one.data.trim());
  const shown = [...document.body.querySelectorAll('*')].filter((each) => each.checkVisibility());
  const texts = shown.filter(own).map((each) => [each, getComputedStyle(each).color]);
  const hint = (each) => getComputedStyle(each, '::placeholder').color;
  const fields = shown.filter((each) => each.placeholder).map((each) => [each, hint(each)]);
  const paint = document.body.appendChild(document.createElement('i'));
  const marks = ['good', 'commit', 'bad', 'ingest', 'send', 'receive', 'resolve', 'ack'].map((name) => {
    paint.style.color = `var(--${name})`;
    return [name, ratio(light(getComputedStyle(paint).color), behind(document.querySelector('.bar') || document.body))];
  });
  paint.remove();
  const name = (each) => `${each.tagName} ${each.id} ${each.className}`;
  const named = ([each, colour]) => [name(each), ratio(light(colour), behind(each))];
  return { texts: [...texts, ...fields].map(named), marks };
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
        assert "what each node has acknowledged" in await tab.ask(text("#node-basis"))
        await tab.until(f"{text('#heat-text')}.includes('1 node disconnected')")
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


async def test_the_page_begins_with_what_happened_before_and_says_what_to_do(tab: Tab) -> None:
    fleet = Fleet(4)
    slice_ = objects.slice_of(1, {1: 3, 2: 3})
    fleet.cluster.update([Fact(slice_.key, slice_, event_unix_nano=time.time_ns())])
    fleet.history.look(time.monotonic(), time.time() - 60)
    fleet.follow(fleet.sessions[0])
    fleet.follow(fleet.sessions[1], failing="Service ns/svc-1: no room")
    fleet.nodes.departed(fleet.sessions[2], time.monotonic() - 200)
    fleet.sessions[2].close("UNAVAILABLE", "the stream broke")
    late, head = fleet.sessions[3], fleet.cluster.log.head
    while late.next_message(time.monotonic()) is not None:
        pass
    late.on_message(pb.WatchRequest(pending=pb.Pending(received_rev=head, text="locked")), time.monotonic())
    async with page(fleet, history=fleet.history) as address:
        await tab.open(f"{address}/")
        await tab.until(f"{text('#change-rows')}.includes('EndpointSlice ns/svc-1')")
        assert "2 nodes" in await tab.ask(text("#change-rows"))
        await tab.until(f"Number({SLIDER}.getAttribute('aria-valuenow')) >= 2")
        rows = await tab.ask(text("#node-rows"))
        assert "Disconnected for 3m2" in rows
        assert "svc/ns/svc-1 fails with CONFLICT: no room." in rows
        assert "Live, commit pending for" in rows
        assert "its kernel has taken no commit: locked." in rows
        assert "1\nFailing" in await tab.ask(text("#states"))
        assert await tab.ask("document.querySelector('#states .good')") is None  # not all that are live are well
        assert "node-0002: see whether its agent runs" in await tab.ask(text("#advice"))

        await tab.ask("document.getElementById('service-name').value = 'ns/svc-1'")
        await tab.ask("document.querySelector('#service-form button').click()")
        await tab.until(f"{text('#service-answer')}.includes('Forwards instead')")
        answer = await tab.ask(text("#service-answer"))
        assert answer.count("10.96.0.1:80/TCP to 10.0.0.1:8080\n") == 2  # of the one that is off, and of the late one
        assert "deltaplane trace" in answer
        for name, value in (("node", "node-0002"), ("from", "10.244.1.7"), ("to", "10.96.0.1:80")):
            await tab.ask(f"document.querySelector('#explain-form [name={name}]').value = '{value}'")
        await tab.ask("document.querySelector('#explain-form button').click()")
        await tab.until(f"{text('#explain-answer')}.includes('The node has been disconnected for 3m2')")
        assert await tab.ask("document.querySelector('#explain-answer h3').className") == "bad"
        cut = "[...document.querySelectorAll('td:not(.long)')].filter((one) => one.getClientRects().length > 1).length"
        assert await tab.ask(cut) == 0


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
            await tab.until(
                f"document.querySelector('.good') !== null && {SLIDER}.getAttribute('aria-valuenow') != '0'"
            )
            await tab.ask(
                "document.getElementById('heat-details').open = true; document.getElementById('node-all').click()"
            )
            await tab.until(f"{text('#heat-table')}.includes('disconnected')")
            found = await tab.ask(CONTRAST)
            assert len(found["texts"]) > 40
            assert [each for each in found["texts"] if each[1] < 4.5] == []  # level AA
            assert [each for each in found["marks"] if each[1] < 3] == []
            seen.append(await tab.ask("getComputedStyle(document.body).backgroundColor"))

    assert seen == ["rgb(255, 255, 255)", "rgb(13, 17, 23)"]


async def test_the_heat_map_is_read_by_the_keyboard_in_words_and_as_a_table(tab: Tab) -> None:
    fleet = Fleet(5)
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(f"{SLIDER}.getAttribute('aria-valuetext').startsWith('Now: 5 nodes ≤ 0.5 s')")
        fleet.sessions[4].close("UNAVAILABLE", "the stream broke")
        await tab.until(f"{SLIDER}.getAttribute('aria-valuetext') == 'Now: 4 nodes ≤ 0.5 s, 1 node disconnected'")
        await tab.ask(f"{SLIDER}.focus()")
        await tab.press("Home")
        await tab.until(f"{SLIDER}.getAttribute('aria-valuenow') == '1'")
        assert (await tab.ask(f"{SLIDER}.getAttribute('aria-valuetext')")).endswith(": 5 nodes ≤ 0.5 s")
        assert (await tab.ask(text("#heat-chosen"))).endswith(": 5 nodes ≤ 0.5 s.")
        await tab.press("End")
        await tab.until(f"{SLIDER}.getAttribute('aria-valuetext').startsWith('Now: 4 nodes')")
        await tab.press("ArrowLeft")
        await tab.until(f"{text('#heat-chosen')}.startsWith('At ')")
        role, named, number = await tab.ask(TREE)
        assert (role, named, number) == ("slider", "lag", "0")

        await tab.ask("document.querySelector('#heat-details summary').focus()")
        await tab.press("Enter", "\r")
        await tab.until(f"{text('#heat-table')}.includes('disconnected')")
        cells = "(row) => [...row.cells].map((one) => one.innerText)"
        rows = await tab.ask(f"[...document.querySelectorAll('#heat-table tbody tr')].map({cells})")
        assert [[row[1], row[-1]] for row in rows] == [["4", "1"], ["5", "0"]]  # the newest first, equal looks as one


async def test_how_many_nodes_a_mark_stands_for_is_not_said_by_its_colour_alone(tab: Tab) -> None:
    fleet = Fleet(100)
    for session in fleet.sessions[:4]:
        session.close("UNAVAILABLE", "the stream broke")
    async with page(fleet) as address:
        await tab.open(f"{address}/")
        await tab.until(f"{SLIDER}.getAttribute('aria-valuetext').includes('4 nodes disconnected')")
        few, many = await tab.ask(HEIGHTS)
    assert 0 < few < many / 2


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


async def test_a_thousand_nodes_are_shown_at_once_found_by_a_word_and_change_live(tab: Tab) -> None:
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

        fleet.change(objects.service(1, 5))
        for session in fleet.sessions[1:]:
            fleet.follow(session)
        await tab.until(f"{text('#change-rows')}.includes('Service ns/svc-1')")
        await tab.until(f"{text('#change-rows')}.includes('999 nodes, slowest node-')")
        head = fleet.cluster.log.head
        revision = "document.querySelector('#node-rows tr').cells[3].innerText"
        await tab.until(f"{text('#states')}.includes('{head}\\nrevision') && {revision} == '{head}'")
        assert await tab.ask("document.querySelectorAll('*').length") < 5000
