"""The words of a command line: options before the verb, kubectl's habits, and verbs that are none."""

from __future__ import annotations

import pytest

from deltaplane import cli
from deltaplane.cli.hints import near
from operatorcli.exits import Exit, Failed
from operatorcli.words import arranged

VERBS = tuple(cli.VERBS)


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("get svc", "get svc"),
        ("--insecure get svc", "get --insecure svc"),
        ("-n shop get svc web", "get -n shop svc web"),
        ("-nshop -A get svc", "get -nshop -A svc"),
        ("--server=a:1 --insecure=true status -o json", "status --server=a:1 --insecure -o json"),
        ("--server a:1 status", "status --server a:1"),
        ("status --insecure=false", "status --no-insecure"),
        ("--help", "--help"),
        ("", ""),
    ],
)
def test_options_before_the_verb_come_after_it(given: str, taken: str) -> None:
    assert arranged(given.split(), VERBS) == taken.split()


@pytest.mark.parametrize(
    ("given", "text", "advice"),
    [
        ("-n shop describe svc web", "unknown verb 'describe'", "deltaplane get svc NAME"),
        ("logs", "unknown verb 'logs'", "kubectl -n deltaplane-system logs"),
        ("statsu", "unknown verb 'statsu'", "`deltaplane status`"),
        ("--insecure", "no verb after --insecure", "deltaplane status"),
        ("status --insecure=perhaps", "neither true nor false", "--insecure=false"),
    ],
)
def test_what_cannot_be_says_what_may_have_been_meant(given: str, text: str, advice: str) -> None:
    with pytest.raises(Failed) as found:
        arranged(given.split(), VERBS)

    assert found.value.code is Exit.USAGE
    assert text in found.value.text
    assert advice in found.value.advice


def test_a_word_that_is_like_nothing_is_sent_to_the_help() -> None:
    assert near("xyzzy", VERBS) == "`deltaplane --help` lists what there is."


def test_the_dispatcher_names_the_nearest_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["events"]) == 2
    assert "`deltaplane watch`" in capsys.readouterr().err
