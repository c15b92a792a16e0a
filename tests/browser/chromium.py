"""Debian's headless Chromium, driven by its DevTools protocol: opens a page, asks it in JavaScript, presses keys.

async with browser() as tab:
    await tab.open("http://127.0.0.1:1234/")
    await tab.until("document.title == 'Deltaplane'")
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import signal
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import aiohttp

from tools.lab import parts

LIMIT = 30.0  # seconds for anything that is waited for
FLAGS = ("--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run", "--hide-scrollbars",
         "--disable-background-networking", "--window-size=1280,1600")  # fmt: skip


class Tab:
    """One page. `said`: what its console had, `failed`: requests that went elsewhere or were blocked."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.said: list[str] = []
        self.requests: list[str] = []
        self.task = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        async for message in self._socket:
            found = json.loads(message.data)
            if found.get("id") in self._answers:
                self._answers.pop(found["id"]).set_result(found)
                continue
            method, values = found.get("method"), found.get("params", {})
            if method == "Log.entryAdded":
                self.said.append(str(values["entry"]["text"]))
            elif method == "Runtime.exceptionThrown":
                self.said.append(str(values["exceptionDetails"]))
            elif method == "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])

    async def command(self, method: str, **values: object) -> dict[str, Any]:
        """One command of the protocol, and its result."""
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": values})
        async with asyncio.timeout(LIMIT):
            found = await answer
        assert "error" not in found, found
        result: dict[str, Any] = found["result"]
        return result

    async def open(self, address: str) -> None:
        """Goes there, with the console and the network followed."""
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.command(f"{domain}.enable")
        await self.command("Page.navigate", url=address)
        await self.until("document.readyState == 'complete'")

    async def ask(self, script: str) -> Any:
        """The value of an expression; a promise is awaited."""
        found = await self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script: str) -> None:
        """Until the expression is true; the page itself looks."""
        milliseconds = int(LIMIT * 900)
        look = f"if ({script}) done(true); else if (Date.now() > end) done(false); else setTimeout(look, 30);"
        begin = f"const end = Date.now() + {milliseconds}; const look = () => {{ {look} }}; look();"
        waits = f"new Promise((done) => {{ {begin} }})"
        assert await self.ask(waits), f"never true: {script}; {self.said}; {await self.ask('document.body.innerText')}"

    async def press(self, key: str, text: str = "") -> None:
        """One key, as from a keyboard."""
        code = {"Tab": 9, "Enter": 13, "End": 35, "Home": 36, "ArrowLeft": 37}.get(key, 0)
        values = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        await self.command("Input.dispatchKeyEvent", type="keyDown", text=text, **values)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **values)

    async def write(self, text: str) -> None:
        """Into what has the focus."""
        await self.command("Input.insertText", text=text)

    async def picture(self) -> bytes:
        """What the window shows, as PNG."""
        found = await self.command("Page.captureScreenshot", format="png")
        return base64.b64decode(found["data"])


@asynccontextmanager
async def browser() -> AsyncIterator[Tab]:
    """Raises `PartMissing` where there is no Chromium."""
    program = parts.installed("chromium-headless-shell")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = await asyncio.create_subprocess_exec(
            program, *FLAGS, f"--user-data-dir={folder}", "about:blank", start_new_session=True,
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE, env={**os.environ, "HOME": folder},
        )  # fmt: skip
        heard = Heard(process)
        try:
            async with aiohttp.ClientSession() as session:
                place = await _tab(session, await heard.place())
                async with session.ws_connect(place, max_msg_size=0) as socket:
                    yield Tab(socket)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # all of its processes: nothing in them is to be kept
            await heard.ended()


class Heard:
    """What the program says, read to its end: one whose words nobody takes stands still."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._place = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._listen())

    async def place(self) -> str:
        """HOST:PORT of the protocol, which the program prints."""
        async with asyncio.timeout(LIMIT):
            found: str = await self._place
            return found

    async def ended(self) -> None:
        await self._task
        await self._process.wait()

    async def _listen(self) -> None:
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            if b"DevTools listening on ws://" in line and not self._place.done():
                self._place.set_result(line.decode().partition("ws://")[2].partition("/")[0])


async def _tab(session: aiohttp.ClientSession, place: str) -> str:
    """The address of the first tab."""
    async with session.get(f"http://{place}/json/list") as answer:
        tabs = await answer.json()
    return next(str(each["webSocketDebuggerUrl"]) for each in tabs if each["type"] == "page")
