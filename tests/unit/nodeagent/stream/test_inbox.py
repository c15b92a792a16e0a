"""What a call brings is read when it is asked for, and ahead while a long call runs; nothing is lost, all in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from nodeagent.stream import inbox as module
from nodeagent.stream.inbox import Inbox


class Call:
    """The messages of a stream, as they come: None ends it, an exception breaks it."""

    def __init__(self, *come: bytes | Exception | None) -> None:
        self.queue: asyncio.Queue[bytes | Exception | None] = asyncio.Queue()
        self.read = 0
        for each in come:
            self.queue.put_nowait(each)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (data := await self.queue.get()) is not None:
            if isinstance(data, Exception):
                raise data
            self.read += 1
            yield data


async def settled() -> None:
    """All tasks have done what they can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_without_a_long_call_each_message_is_read_by_who_asks_and_no_task_is_made() -> None:
    call = Call(b"1", b"2", None)
    inbox = Inbox(call)
    before = len(asyncio.all_tasks())

    assert await inbox.arrived()
    assert (inbox.take(), call.read) == ((b"1",), 1)
    assert await inbox.arrived()
    assert inbox.take() == (b"2",)
    assert not await inbox.arrived()
    assert len(asyncio.all_tasks()) == before


async def test_what_comes_during_a_long_call_is_taken_together_and_the_next_alone() -> None:
    call = Call(b"1")
    inbox = Inbox(call)
    assert await inbox.arrived()
    assert inbox.take() == (b"1",)
    inbox.read_ahead()
    for data in (b"2", b"3", b"4"):
        call.queue.put_nowait(data)
        await settled()

    assert await inbox.arrived()
    assert inbox.take() == (b"2", b"3", b"4")

    waiting = asyncio.create_task(inbox.arrived())
    await settled()
    call.queue.put_nowait(b"5")
    call.queue.put_nowait(b"6")
    assert await waiting
    assert inbox.take() == (b"5",)
    await settled()
    assert call.read == 5  # nobody reads ahead any more
    inbox.read_ahead()
    await settled()
    assert inbox.take() == (b"6",)
    await inbox.close()


async def test_reading_ahead_has_a_limit_and_goes_on_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 30)
    call = Call(*(bytes(10) for _ in range(8)))
    inbox = Inbox(call)
    for number in (3, 3, 2):
        inbox.read_ahead()
        await settled()
        assert await inbox.arrived()
        assert len(inbox.take()) == number
    await inbox.close()


async def test_an_error_comes_after_the_messages_before_it() -> None:
    call = Call(b"1", ConnectionError("reset"))
    inbox = Inbox(call)
    inbox.read_ahead()
    await settled()
    inbox.read_ahead()

    assert await inbox.arrived()
    assert inbox.take() == (b"1",)
    with pytest.raises(ConnectionError):
        await inbox.arrived()


async def test_an_end_comes_after_the_messages_before_it() -> None:
    inbox = Inbox(Call(b"1", None))
    inbox.read_ahead()
    await settled()

    assert await inbox.arrived()
    assert inbox.take() == (b"1",)
    assert not await inbox.arrived()


async def test_a_closed_inbox_leaves_no_task() -> None:
    before = len(asyncio.all_tasks())
    inbox = Inbox(Call())
    inbox.read_ahead()
    await settled()
    await inbox.close()
    assert len(asyncio.all_tasks()) == before
