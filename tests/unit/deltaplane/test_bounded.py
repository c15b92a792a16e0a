"""Files and YAML from outside are bounded before anything large, deep or endless is built."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from deltaplane import bounded
from deltaplane.bounded import TooMuch, load, read
from deltaplane.threads import in_thread

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(st.characters(codec="ascii"), max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@given(value=PLAIN)
def test_what_is_within_the_limits_reads_as_ever(loader: type, value: object) -> None:
    assert load(yaml.safe_dump(value), loader) == value


@pytest.mark.parametrize("loader", [yaml.CSafeLoader, yaml.SafeLoader])
@pytest.mark.parametrize(
    "text, reason",
    [
        ("[" * 100_000, "nested deeper"),
        ("- " * 100_000, "nested deeper"),
        ("&x [*x]", "alias \\*x refers to what it stands in"),
        ("&x {a: [{b: *x}]}", "alias \\*x refers to what it stands in"),
        ("a: 0x" + "f" * 100, "line 1 of the document: a number of 102 characters"),
    ],
)
def test_what_is_beyond_a_limit_names_it(loader: type, text: str, reason: str) -> None:
    with pytest.raises(TooMuch, match=reason):
        load(text, loader)


def test_aliases_count_with_all_they_stand_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "ALIASED", 10)
    assert load("a: &a [1, 2, 3, 4]\nb: [*a, *a]\n", yaml.CSafeLoader) == {"a": [1, 2, 3, 4], "b": [[1, 2, 3, 4]] * 2}
    with pytest.raises(TooMuch, match=r"line 2 .* more nodes than the limit of 10"):
        load("a: &a [1, 2, 3, 4]\nb: [*a, *a, *a]\n", yaml.CSafeLoader)


def test_keys_and_values_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "NODES", 5)
    assert load("{a: 1, b: 2}", yaml.CSafeLoader) == {"a": 1, "b": 2}
    with pytest.raises(TooMuch, match="more keys and values than the limit of 5"):
        load("{a: 1, b: 2, c: 3}", yaml.CSafeLoader)


def test_a_named_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TooMuch, match="not a regular file"):
        read(tmp_path / "pipe")


def test_no_descriptor_is_left_behind(tmp_path: Path) -> None:
    before = sorted(path.name for path in Path("/proc/self/fd").iterdir())
    for path in (tmp_path, Path("/dev/zero")):
        with pytest.raises(TooMuch, match="not a regular file"):
            read(path)
    assert sorted(path.name for path in Path("/proc/self/fd").iterdir()) == before


async def test_work_in_a_thread_gives_back_what_it_raises() -> None:
    assert await in_thread(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        await in_thread(lambda: 1 // 0)


async def test_work_in_a_thread_may_be_given_up() -> None:
    going = threading.Event()
    task = asyncio.create_task(in_thread(going.wait))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    going.set()


def test_a_process_ends_though_a_thread_still_reads() -> None:
    program = (
        "import asyncio, time\nfrom deltaplane.threads import in_thread\n"
        "async def main():\n  t = asyncio.create_task(in_thread(lambda: time.sleep(600)))\n"
        "  await asyncio.sleep(0.05)\n"
        "asyncio.run(main())\n"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_deep_json_is_an_error_and_no_crash() -> None:
    class Known(msgspec.Struct):
        a: int = 0

    for text in (b'{"x": ' + b"[" * 200_000, b'{"a": ' + b"9" * 10_000 + b"}"):
        with pytest.raises((msgspec.DecodeError, RecursionError)):
            msgspec.json.decode(text, type=Known)


def test_a_file_that_has_nothing_to_say_yet_is_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As /proc/kmsg: a regular file by its mode, whose reading would wait."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(reading, False)
        monkeypatch.setattr("deltaplane.bounded.os.open", lambda *_: os.dup(reading))
        monkeypatch.setattr("deltaplane.bounded.stat.S_ISREG", lambda _: True)
        with pytest.raises(BlockingIOError):
            read(tmp_path / "any")
    finally:
        os.close(reading)
        os.close(writing)
