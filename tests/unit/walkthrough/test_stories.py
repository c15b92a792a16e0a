"""The walkthrough says what differs, asks again what takes time, and shows what was seen."""

from __future__ import annotations

from collections.abc import Iterator

from tests.walkthrough import guest
from tests.walkthrough.__main__ import STORIES
from tests.walkthrough.page import LINES, page
from tests.walkthrough.story import Place, Played, Step, Story, lacking, play


def answers(*texts: str) -> Iterator[str]:
    yield from texts


def test_what_is_wanted_and_not_there_is_named_and_what_must_not_be_there() -> None:
    step = Step("", "", sees=["^one$", "^two$"], misses=["three"])

    assert lacking(step, "one\ntwo\n") == []
    assert lacking(step, "one\nthree\n") == ["lacks ^two$", "has three"]


def test_what_only_looks_is_typed_again_until_it_shows_what_is_wanted() -> None:
    said = answers("not yet", "not yet", "now")
    story = Story(1, "", [Step("", "look", ["^now$"])])

    assert [each.output for each in play(story, lambda _, __: next(said))] == ["now"]


def test_a_story_ends_with_the_first_step_that_differs() -> None:
    story = Story(1, "", [Step("", "do", ["never"], asks=False), Step("", "more")])

    assert [each.lacks for each in play(story, lambda _, __: "no")] == [["lacks never"]]


def test_every_story_is_played() -> None:
    assert {story.number for story in (*STORIES, *guest.STORIES)} == set(range(1, 20))


def test_the_page_shows_prompt_command_and_output_and_says_what_it_leaves_out() -> None:
    step = Step("It has rules.", "nft list ruleset", at=Place.NODE_1)
    text = page([(Story(2, "rules", [step]), [Played(step, "rule\n" * (LINES + 3))])], "2026-01-01", "Linux")

    assert "## W2: rules" in text
    assert "node-1# nft list ruleset\nrule\n" in text
    assert "... (3 lines more)" in text
