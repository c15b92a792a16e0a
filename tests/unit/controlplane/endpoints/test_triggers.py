"""The time of the change that a write answers."""

from __future__ import annotations

from controlplane.endpoints.triggers import TRIGGER_TIME, Triggers, annotated
from tests.unit.controlplane.endpoints.things import pod, service


def test_the_first_write_answers_the_services_creation() -> None:
    assert Triggers().look(service(created=1000), [pod(0)])[0] == 1000


def test_later_writes_answer_the_first_pod_that_changed_since() -> None:
    triggers = Triggers()
    triggers.note(service().key, triggers.look(service(), [pod(0, ready_since=10), pod(1, ready_since=20)])[1])
    moment, _ = triggers.look(service(), [pod(0, ready_since=50), pod(1, ready_since=40), pod(2, ready_since=60)])
    assert moment == 40
    assert triggers.look(service(), [pod(0, ready_since=10)])[0] == 0


def test_a_write_that_failed_leaves_its_change_unanswered() -> None:
    triggers = Triggers()
    triggers.note(service().key, triggers.look(service(), [])[1])
    assert [triggers.look(service(), [pod(0, ready_since=70)])[0] for _ in range(2)] == [70, 70]


def test_the_annotation_is_a_time_in_utc_and_goes_when_the_time_is_unknown() -> None:
    found = annotated({"a": "b"}, 1_767_225_600)
    assert found == {"a": "b", TRIGGER_TIME: "2026-01-01T00:00:00Z"}
    assert annotated(found, 0) == {"a": "b"}
