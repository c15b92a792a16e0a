"""A lasting fault is said once, a changed one again, and its end once."""

from __future__ import annotations

from deltaplane.once import Once


def test_a_text_is_new_until_it_was_said_and_when_it_changes() -> None:
    said = Once[str]()
    assert [said.note("a", text) for text in ("x", "x", "y", "x")] == [True, False, True, True]
    assert said.note("b", "x")


def test_a_key_alone_is_a_text_of_its_own() -> None:
    said = Once[str]()
    assert said.note("a")
    assert not said.note("a")


def test_the_end_is_said_once_and_only_of_what_was_said() -> None:
    said = Once[str]()
    assert not said.clear("a")
    said.note("a")
    assert said.clear("a")
    assert not said.clear("a")
    assert said.note("a")


def test_what_is_not_retained_is_over() -> None:
    said = Once[int]()
    for key in (1, 2, 3):
        said.note(key, "x")
    assert said.retain({2}) == [1, 3]
    assert list(said) == [2]
    assert said.note(1, "x")


def test_the_last_text_of_a_key_can_be_read() -> None:
    said = Once[str]()
    said.note("a", "x")
    said.note("a", "y")
    assert (said.text("a"), said.text("b"), len(said)) == ("y", "", 1)


def test_beyond_the_most_keys_the_first_is_forgotten() -> None:
    said = Once[int](most=2)
    assert [said.note(key) for key in (1, 2, 3, 2, 1)] == [True, True, True, False, True]
    assert len(said) == 2
