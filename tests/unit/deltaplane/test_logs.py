"""What comes from outside stands in a log, and in an error at the start, as text: nothing acts on a terminal."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane import main as controlplane_main
from deltaplane import cli, logs
from nodeagent import main as agent_main
from nodeagent.errors import DataplaneUnavailable

FORGED = "gone\r\n2026-01-01T00:00:00.000Z ERROR nodeagent: forged \x1b[2J\x9b\u202e\u2028\x85\0"
SHOWN = "gone\\r\\n2026-01-01T00:00:00.000Z ERROR nodeagent: forged \\x1b[2J\\x9b\\u202e\\u2028\\x85\\x00"
texts = st.text(st.characters(), max_size=40) | st.just(FORGED)


class Stream(io.StringIO):
    """What a terminal or a log collector gets."""

    def lines(self) -> list[str]:
        return self.getvalue().removesuffix("\n").split("\n")


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, sys.excepthook
    yield
    root.handlers[:], sys.excepthook = handlers, hook
    root.setLevel(level)


def logged(level: int, message: str, *arguments: object, error: BaseException | None = None) -> list[str]:
    """The lines that the programs' formatter makes of one record."""
    stream = Stream()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.Formatter())
    handler.handle(logging.getLogger("t").makeRecord("t", level, "f", 1, message, arguments, _info(error)))
    return stream.lines()


def _info(error: BaseException | None):  # type: ignore[no-untyped-def]
    return error and (type(error), error, error.__traceback__)


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except type(error) as caught:
        return caught


@given(texts)
def test_a_record_is_one_printable_line_whatever_it_is_made_of(text: str) -> None:
    lines = logged(logging.WARNING, "left out: %s", text)
    assert len(lines) == 1
    assert lines[0].isprintable()
    assert "WARNING t: left out: " in lines[0]


@given(texts)
def test_no_line_of_a_traceback_looks_like_a_record(text: str) -> None:
    first, *rest = logged(logging.ERROR, "failed", error=raised(ValueError(text)))
    assert first.endswith(" ERROR t: failed")
    assert rest
    assert all(line.startswith("  ") and line.isprintable() for line in rest)


def test_what_a_terminal_acts_on_is_spelled_out() -> None:
    assert logged(logging.INFO, "%s", FORGED)[0].endswith(f" INFO t: {SHOWN}")


def test_printable_text_of_any_language_stays_as_it_is() -> None:
    assert logged(logging.INFO, "%s", 'Zoë "привет" 世界 \\n')[0].endswith('Zoë "привет" 世界 \\n')


def test_both_programs_log_through_that_formatter(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure(2)
    logging.getLogger("some.library").warning("said %s", FORGED)
    sys.excepthook(ValueError, raised(ValueError(FORGED)), None)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith(f"WARNING some.library: said {SHOWN}")
    assert all(line.isprintable() for line in lines)


def test_an_error_at_the_start_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise DataplaneUnavailable(FORGED)

    monkeypatch.setattr(agent_main, "_carry_out", fail)
    assert agent_main.main(["--server=127.0.0.1:1", "--hostname-override=n", "--insecure"]) == 1
    assert capsys.readouterr().err == f"deltaplane agent: {SHOWN}\n"


@pytest.mark.parametrize("program", ["agent", "controlplane"])
def test_wrong_usage_is_one_line(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([program, f"--{FORGED}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.removesuffix("\n").isprintable()


def test_an_error_of_the_control_plane_at_the_start_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "--source=manifests",
        f"--manifests=/nowhere/{FORGED.replace(chr(0), '')}",
        "--insecure",
        "--listen=127.0.0.1:0",
    ]
    assert controlplane_main.main(arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("deltaplane controlplane: ")
    assert error.isprintable()
