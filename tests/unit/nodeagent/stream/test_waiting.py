"""nodeagent.stream.waiting: a pause ends early once for each content of the agent's own files, and not too often."""

from __future__ import annotations

import logging

import pytest

from nodeagent.stream.waiting import APART, LOOK, Shown, Wait

MINUTE = 60.0
TOKEN: Shown = {"token-file": "old", "server-ca-file": b"CA"}


class Files:
    """What an agent shows, on a clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.shown: Shown = TOKEN
        self.early = 0
        self.changes: dict[float, Shown] = {}  # by seconds from now
        self.wait = Wait(lambda: self.shown, self._count, sleep=self._sleep, clock=lambda: self.now)

    def _count(self) -> None:
        self.early += 1

    async def _sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in [when for when in self.changes if when <= self.now - 1000.0]:
            self.shown = self.changes.pop(when)

    async def refused(self, pause: float = MINUTE) -> float:
        """One attempt that comes to nothing; the seconds until the next."""
        self.wait.attempt()
        began = self.now
        await self.wait.over(pause)
        return self.now - began


@pytest.fixture
def files() -> Files:
    return Files()


async def test_without_a_change_the_whole_pause_is_waited(files: Files) -> None:
    assert await files.refused() == MINUTE
    assert await files.refused(0.0) == 0.0
    assert files.early == 0


async def test_a_change_ends_the_pause_once_and_is_told(files: Files, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    files.changes[10.0] = {**TOKEN, "token-file": "new"}

    assert await files.refused() <= 10.0 + LOOK
    assert await files.refused() == MINUTE  # it is refused with the new content too
    assert files.early == 1
    (line,) = (record.getMessage() for record in caplog.records)
    assert "own files changed" in line
    assert "flags=token-file" in line
    assert "new" not in line


async def test_the_same_content_written_again_ends_no_pause(files: Files) -> None:
    files.changes = {10.0: dict(TOKEN)}

    assert await files.refused() == MINUTE


async def test_what_changes_while_an_attempt_runs_counts(files: Files) -> None:
    files.wait.attempt()
    files.shown = {"token-file": "mended"}
    began = files.now
    await files.wait.over(MINUTE)

    assert files.now - began == LOOK


async def test_content_that_cannot_be_used_ends_no_pause_and_its_mending_does(files: Files) -> None:
    files.changes = {10.0: {}, 20.0: TOKEN}
    assert await files.refused() == MINUTE  # the content is what it was

    files.shown, files.changes = {}, {files.now - 1000.0 + 5.0: TOKEN}
    assert await files.refused() <= 5.0 + LOOK


@pytest.mark.parametrize("every", [LOOK, 3.0, 7.0])
async def test_files_that_are_rewritten_for_ever_bring_few_attempts_forward(files: Files, every: float) -> None:
    files.changes = {every * at: {"token-file": str(at)} for at in range(1, int(10 * MINUTE / every))}
    attempts = 0
    while files.changes:
        await files.refused()
        attempts += 1

    assert files.early > 10 * MINUTE / max(every, APART) / 2  # they do count
    assert attempts <= 10 * MINUTE / APART + 1


async def test_a_second_change_that_comes_too_soon_waits_and_is_not_lost(files: Files) -> None:
    files.changes = {1.0: {"token-file": "half"}, 2.0: {"token-file": "whole"}}

    assert await files.refused() == 1.0
    assert await files.refused() == APART
    assert await files.refused() == MINUTE
    assert files.early == 2


async def test_an_agent_in_plain_text_waits_as_ever(files: Files) -> None:
    files.shown = {}

    assert await files.refused() == MINUTE
