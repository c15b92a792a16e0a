"""Credentials do not get into what is said: of a URL, well formed or not, and of a YAML file with a mistake."""

from __future__ import annotations

import logging
import time

import pytest
import yaml

from deltaplane import bounded, redact
from deltaplane.logs import Formatter, event

SECRET = "SeCrEt"
URLS = [
    f"https://user:{SECRET}@10.0.0.1:6443", f"http://{SECRET}@proxy", f"http://u:{SECRET}@[::",
    f"http://u:{SECRET}@h:port",    f"http://u:{SECRET}/with@slash@10.0.0.1", f"server=https://u:{SECRET}@h, and http://u:{SECRET}@[::1]:80/x",
]  # fmt: skip


@pytest.mark.parametrize("text", URLS)
def test_a_url_is_said_without_user_and_password(text: str) -> None:
    said = redact.urls(f"cannot reach {text}: refused")
    assert SECRET not in said
    assert said.startswith("cannot reach ")
    assert said.endswith(": refused")
    assert "://***@" in said


def test_a_text_without_credentials_stays() -> None:
    for text in ("https://10.0.0.1:6443: refused; mail a@b", "spiffe://deltaplane.dev/node/a", "a@b", "", "://"):
        assert redact.urls(text) == text


def test_a_long_hostile_text_takes_time_in_proportion() -> None:
    took = []
    for count in (20_000, 200_000):
        began = time.process_time()
        redact.urls("@ " + "://" * count)
        took.append(time.process_time() - began)
    assert took[1] < 100 * max(took[0], 1e-3), took  # in proportion to the square: a hundred times


@pytest.mark.parametrize("text", URLS)
def test_a_record_has_no_credentials_of_a_url_and_its_traceback_has_none(text: str) -> None:
    error = ValueError(text)
    record = logging.LogRecord("x", logging.WARNING, "", 0, "said %s", (text,), (ValueError, error, None))
    assert SECRET not in Formatter().format(record)


def test_an_event_has_none(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        event(logging.getLogger("x"), logging.INFO, "tried", proxy=URLS[0])
    assert SECRET not in Formatter().format(caplog.records[0])


@pytest.mark.parametrize("value", [f"*{SECRET}", f"!{SECRET} x", f"!!{SECRET} x", f"!x!{SECRET} y"])
@pytest.mark.parametrize("loader", [yaml.SafeLoader, yaml.CSafeLoader])
def test_a_mistake_in_yaml_is_named_by_its_place_and_not_by_the_files_words(loader: type, value: str) -> None:
    with pytest.raises(ValueError, match=r"line [123] of the document, column ") as raised:
        bounded.load(f"users:\n- password: {value}\n", loader)
    assert SECRET not in str(raised.value)
