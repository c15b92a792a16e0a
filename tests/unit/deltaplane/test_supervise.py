"""Nothing that runs for ever ends unnoticed."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import threading
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from deltaplane.supervise import FILES, LAST, Ended, Job, Watch, together


async def for_ever() -> None:
    await asyncio.Event().wait()


def fault() -> None:
    raise IndexError("a defect")


async def returns() -> None:
    await asyncio.sleep(0)


async def fails() -> None:
    await asyncio.sleep(0)
    raise LookupError("gone")


async def is_cancelled() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await for_ever()


@pytest.mark.parametrize(
    "work, error, text",
    [(returns, Ended, "stream: returned"), (is_cancelled, Ended, "stream: cancelled"), (fails, LookupError, "gone")],
)
async def test_however_a_job_ends_it_ends_all_with_an_error(work: object, error: type[Exception], text: str) -> None:
    assert callable(work)
    with pytest.raises(error, match=text):
        await together(Job("other", for_ever()), Job("stream", work()))


async def test_a_job_that_may_finish_ends_all_without_an_error() -> None:
    await together(Job("other", for_ever()), Job("signals", returns(), finishes=True))


async def test_a_job_that_may_finish_is_an_error_where_it_is_cancelled() -> None:
    with pytest.raises(Ended, match="signals"):
        await together(Job("signals", is_cancelled(), finishes=True))


async def test_cancelling_from_outside_is_passed_on() -> None:
    task = asyncio.create_task(together(Job("stream", for_ever())))
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_is_restarted_comes_back_with_backoff_and_is_counted() -> None:
    watch, ends = Watch(), [fails, returns, is_cancelled] * 3
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == len(ends):
            raise KeyboardInterrupt

    steps = iter(ends)

    def another() -> Coroutine[Any, Any, None]:
        return next(steps)()

    with pytest.raises(KeyboardInterrupt):
        await watch.restarting("conntrack", another, sleep=pause)

    assert pauses == [1, 2, 4, 8, 16, 32, LAST, LAST, LAST]
    assert watch.failures == {"conntrack": 9}


async def test_an_error_that_is_fatal_is_not_restarted() -> None:
    with pytest.raises(LookupError):
        await Watch().restarting("http", fails, fatal=(LookupError,))


@pytest.fixture
def hook() -> Iterator[None]:
    before = threading.excepthook
    yield
    threading.excepthook = before


async def test_what_loop_and_threads_raise_is_counted(hook: None) -> None:
    watch = Watch()
    watch.install()
    asyncio.get_running_loop().call_soon(fault)
    await asyncio.sleep(0)
    thread = threading.Thread(target=fault, name="proxy")
    thread.start()
    thread.join()

    assert watch.failures == {"event loop": 1, "thread proxy": 1}


def test_a_failure_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = Watch()
    for _ in range(3):
        watch.failed("conntrack", "it broke")

    assert (len(caplog.records), watch.failures["conntrack"]) == (1, 3)


@pytest.mark.parametrize(("number", "what"), [(errno.EMFILE, "LimitNOFILE"), (errno.ENFILE, "fs.file-max")])
def test_out_of_files_is_said_once_as_what_it_is_and_not_as_a_defect(
    number: int, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = Watch()
    for _ in range(3):
        watch.failed("event loop", OSError(number, os.strerror(number)))

    (record,) = caplog.records
    assert what in record.getMessage()
    assert "defect" not in caplog.text
    assert record.exc_info is None
    assert watch.failures == {FILES: 3}


async def test_a_listener_that_has_no_file_for_a_client_has_one_later(
    hook: None, caplog: pytest.LogCaptureFixture
) -> None:
    watch, served = Watch(), asyncio.Event()
    watch.install()

    def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        served.set()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    client = socket.socket()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    least = os.dup(client.fileno())
    os.close(least)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (least, limits[1]))
        client.connect(server.sockets[0].getsockname())
        async with asyncio.timeout(20):
            while not watch.failures[FILES]:  # noqa: ASYNC110 - nothing else tells of it
                await asyncio.sleep(0.01)
        assert not served.is_set()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    async with asyncio.timeout(20):
        await served.wait()
    client.close()
    server.close()
    await server.wait_closed()
    assert [record.levelname for record in caplog.records if record.name == "deltaplane.supervise"] == ["ERROR"]
    assert f"may open {least} files" in caplog.text
    assert "defect" not in caplog.text
