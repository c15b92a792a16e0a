"""A fault in what goes along with a commit, or in this node's Node object, holds up no change of a Service."""

from __future__ import annotations

from typing import Any

import pytest

from deltaplane.model import Kind, ObjectKey
from nodeagent.dataplane.commit_hooks import Wanted
from nodeagent.dataplane.guard import Guarded, LastGood
from nodeagent.dataplane.outcome import Commit
from nodeagent.node.node_info import NodeInfo
from nodeagent.stream.mirror import Mirror


class Faulty:
    """A follower that fails wherever it is asked."""

    def want(self, *_: Any, **__: Any) -> None:
        raise ValueError("want")

    def committed(self, *_: Any) -> None:
        raise KeyError("committed")

    def refused(self) -> None:
        raise OSError("refused")

    def failures(self) -> tuple[Any, ...]:
        raise RuntimeError("failures")


def test_a_followers_fault_is_told_under_its_name_and_goes_no_further() -> None:
    told: list[tuple[str, BaseException]] = []
    follower = Guarded("conntrack", Faulty(), lambda name, error: told.append((name, error)))
    follower.want(Wanted(complete=True))
    follower.committed(Commit(), 0.1)
    follower.refused()
    assert follower.failures() == ()
    assert [(name, type(error)) for name, error in told] == [
        ("conntrack", ValueError),
        ("conntrack", KeyError),
        ("conntrack", OSError),
        ("conntrack", RuntimeError),
    ]


def test_what_cannot_be_told_of_the_node_stays_as_it_was_and_is_the_nodes_failure() -> None:
    good = LastGood("node-1")
    answers = iter((1, ValueError("x"), 3))

    def answer() -> int:
        found = next(answers)
        if isinstance(found, int):
            return found
        raise found

    assert good.ask("zone", answer, 0) == 1
    assert good.ask("zone", answer, 0) == 1
    (failed,) = good.failures()
    assert (failed.key, failed.code) == (ObjectKey(Kind.NODE, "", "node-1"), "INTERNAL")
    assert failed.text == "zone cannot be told: ValueError('x')"
    assert good.ask("zone", answer, 0) == 3
    assert list(good.failures()) == []


@pytest.mark.parametrize("part", ["_seen", "_concerning", "_moved"])
def test_every_answer_about_the_node_is_guarded(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise ValueError(part)

    here, mirror = NodeInfo("node-1"), Mirror()
    view = here.view(mirror)
    monkeypatch.setattr(here, part, broken)
    assert here.view(mirror) == view
    here.forwarding(mirror)
    here.heard(mirror)
    (failed,) = here.failures()
    assert part in failed.text
