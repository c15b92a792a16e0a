"""The safety brake (S7) judges a change of the source as a whole, in however many portions and revisions it comes."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from controlplane import batch
from controlplane.facts import Fact
from controlplane.source import portions
from deltaplane.codec import encode_op
from deltaplane.model import Remove, Upsert
from deltaplane.v1 import delta_pb2 as pb
from nodeagent.stream.brake import Brake
from nodeagent.stream.validation import BrakeError
from tests.sessions import objects
from tests.sessions.link import Link, Node, Replica

MANY = range(1, 41)
PORTION = 4


@pytest.fixture
def link() -> Link:
    """An agent that has forty Services, each with a slice."""
    made = Link(Replica(), Node())
    for n in MANY:
        made.replica.put(
            Fact(objects.service_key(n), objects.service(n)),
            Fact(objects.slice_key(n), objects.slice_of(n, {n: objects.READY})),
        )
    made.connect()
    made.step()
    made.step(1.0)
    assert len(services(made)) == 40
    return made


class Sink:
    """Passes portions to the replica; with `each`, the agent gets each one before the next is there."""

    def __init__(self, link: Link, *, each: bool) -> None:
        self._link, self._each = link, each

    def update(self, facts: Iterable[Fact]) -> None:
        self._link.replica.put(*facts, now=self._link.now)
        if self._each:
            self._link.step(0.5)


def services(link: Link) -> set[str]:
    return {name for _, name in link.node.agent.mirror.services}


def endpoints(link: Link) -> int:
    mirror = link.node.agent.mirror
    return sum(len(one.endpoints) for name in mirror.services for one in mirror.slices_of(*name))


def gone(numbers: Iterable[int], *, deleted: bool = False) -> list[Fact]:
    numbers = list(numbers)
    keys = [*map(objects.service_key, numbers), *map(objects.slice_key, numbers)]
    return [Fact(key, None, deleted=deleted) for key in keys]


@pytest.mark.parametrize("each", [True, False], ids=["one by one", "together"])
async def test_what_goes_in_portions_is_held_from_the_first_one_on(
    link: Link, monkeypatch: pytest.MonkeyPatch, each: bool
) -> None:
    monkeypatch.setattr(portions, "WEIGHT", PORTION)
    await portions.feed(Sink(link, each=each), gone(MANY))  # type: ignore[arg-type]
    link.step(1.0)
    assert link.stream is not None
    held = link.stream.brake
    assert held is not None
    assert (held.services_removed, held.services) == (40, 40)
    link.settle(120)  # whole states are asked for meanwhile
    assert len(services(link)) == endpoints(link) == 40


def test_what_takes_several_revisions_says_in_each_how_much_is_to_come(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "MAX_OPS", 20)
    log = link.replica.log
    before = log.head
    link.replica.put(*gone(MANY), now=link.now)
    batches = log.between(before, log.head)
    assert [one.to_come for one in batches] == [40, 40, 20, 0]  # slices go before their Services (S8)
    assert [batch.merge(batches[:count]).to_come for count in (1, 3, 4)] == [40, 20, 0]


@pytest.mark.parametrize("numbers, deleted", [(range(1, 21), False), (MANY, True)], ids=["half of all", "by name"])
async def test_what_may_go_goes_in_portions_too(
    link: Link, monkeypatch: pytest.MonkeyPatch, numbers: Iterable[int], deleted: bool
) -> None:
    monkeypatch.setattr(portions, "WEIGHT", PORTION)
    await portions.feed(Sink(link, each=True), gone(numbers, deleted=deleted))  # type: ignore[arg-type]
    link.step(1.0)
    assert len(services(link)) == 40 - len(list(numbers))
    assert not link.node.agent.brake.holds


def test_a_hold_is_not_doubted_while_the_rest_of_its_change_comes() -> None:
    brake, names = Brake(lambda: 0), [("ns", f"svc-{n}") for n in MANY]
    brake.hold(BrakeError(40, 40, frozenset(names[:PORTION])), now=0.0)
    due = brake.ask_at
    for n in range(PORTION + 1, 41):
        rest = pb.Delta()
        encode_op(Remove(objects.service_key(n)), rest.ops)
        brake.saw(rest, names, now=1.0)
        assert brake.ask_at == due
    back = pb.Delta()
    for n in range(1, 31):
        encode_op(Upsert(objects.service(n)), back.ops)
    brake.saw(back, names, now=2.0)
    assert brake.ask_at == 2.0
