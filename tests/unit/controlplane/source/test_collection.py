"""What is known of a collection: by a list at once or as events, by changes, and by objects that turn unusable."""

from __future__ import annotations

import pytest

from controlplane.facts import Fact
from controlplane.source.brake import LISTS, MOST, Doubtful
from controlplane.source.collection import Collection, Items, oldest_first
from controlplane.source.decode import DecodedEvent, Item
from controlplane.source.history import Lost
from deltaplane.model import ObjectKey
from tests.sessions import objects
from tests.unit.controlplane.source.recorder import Recorder


def key(number: int) -> ObjectKey:
    return objects.service_key(number)


def item(number: int, version: str = "1") -> Item:
    return Item(key(number), Fact(key(number), objects.service(number), version))


def unusable(number: int) -> Item:
    return Item(key(number), None, ("spec.ports: no",))


def gone(number: int, version: str) -> Item:
    return Item(key(number), Fact(key(number), None, version, deleted=True), deleted=True)


def items(*found: Item) -> Items:
    return {each.key: each for each in found}


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def known(recorder: Recorder) -> Collection:
    """One that was listed at version 5, with objects 1 and 2."""
    collection = Collection(lambda: "services at API server x", recorder, 30.0)
    collection.settle(collection.usable(items(item(1), item(2))), "5")
    return collection


def test_a_list_as_events_is_whole_at_its_end_alone(known: Collection) -> None:
    facts: list[Fact] = []
    known.begin_list()
    assert not known.take(DecodedEvent("9", item(1, "9")), facts)
    assert not known.take(DecodedEvent("7", item(3, "7")), facts)  # in no order
    assert not known.take(DecodedEvent("10", gone(3, "10")), facts)
    assert not known.take(DecodedEvent("10"), facts)  # a bookmark on the way
    assert known.take(DecodedEvent("11", initial_end=True), facts)

    assert set(known.end_list()) == {key(1)}
    assert not known.listing
    assert (facts, known.version, set(known.good)) == ([], "5", {key(1), key(2)})


def test_changes_move_the_version_and_what_is_known(known: Collection) -> None:
    facts: list[Fact] = []
    for received in (DecodedEvent("6", item(3, "6")), DecodedEvent("7", gone(1, "7")), DecodedEvent("9")):
        assert not known.take(received, facts)
    assert [fact.resource_version for fact in facts] == ["6", "7"]
    assert (known.version, set(known.good)) == ("9", {key(2), key(3)})


def test_an_event_of_another_history_is_refused_before_it_is_taken_in(known: Collection) -> None:
    facts: list[Fact] = []
    with pytest.raises(Lost, match="services at API server x: resourceVersion 4 after 5"):
        known.take(DecodedEvent("4", item(3, "4")), facts)
    assert (facts, known.version, set(known.good)) == ([], "5", {key(1), key(2)})


def test_an_object_that_turns_unusable_keeps_its_last_good_fact_over_a_relist(
    known: Collection, recorder: Recorder
) -> None:
    facts: list[Fact] = []
    known.take(DecodedEvent("6", unusable(1)), facts)
    good = known.usable(items(unusable(1), unusable(3), item(2)))

    assert (facts, set(good)) == ([], {key(1), key(2)})
    assert good[key(1)].resource_version == "1"
    assert recorder.reports == [(str(key(1)), "spec.ports: no"), (str(key(3)), "spec.ports: no")]


def test_a_problem_is_over_when_its_object_is_usable_again_or_not_listed(known: Collection, recorder: Recorder) -> None:
    known.usable(items(unusable(1), unusable(3)))
    known.usable(items(item(1)))
    assert recorder.problems == {}


def test_a_list_that_lacks_most_is_held_until_lists_agree_for_long_and_then_says_how_many_are_gone(
    recorder: Recorder,
) -> None:
    known = Collection(lambda: "x", recorder, 30.0)
    known.settle(known.usable(items(*(item(number) for number in range(MOST)))), "5")
    for look in range(LISTS):
        with pytest.raises(Doubtful, match=f"lacks {MOST} of {MOST} objects"):
            known.weigh({}, float(look))
    assert known.weigh({}, 30.0) == MOST
    assert known.weigh(items(*(item(number) for number in range(MOST))), 31.0) == 0


def test_facts_go_on_in_the_order_of_their_versions(known: Collection) -> None:
    good = known.usable(items(item(1, "10"), item(2, "9"), item(3, "100")))
    assert [fact.resource_version for fact in oldest_first(good)] == ["9", "10", "100"]
