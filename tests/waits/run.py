"""A run: one round after the other, each with a fault, several changes at once, and a question about each.

A round: the fault begins; each change is waited for, for less time than the fault lasts; the fault ends; all is waited
for again. Whatever an answer says to be in a node's kernel is tried there with packets as soon as the answer is in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from deltaplane.v1 import inspection_pb2 as pb
from tests.faults.world import until
from tests.waits.asking import COMMAND, OBJECT, REVISION, Answer, ask, ways
from tests.waits.changes import Change, Changes
from tests.waits.faults import FAULTS, Effect, Reason, Setting
from tests.waits.objects import SERVICES, SLICES, STEADY
from tests.waits.world import Node, Plane, World

AT_ONCE = 8  # changes of a round
SERVICES_IN_ALL = 40
SHORT = (2.5, 4.0)  # seconds that a question may take while a fault is there
LONG = 30.0  # seconds in which what can be everywhere is
LATE = 1.0  # seconds after the time-out by which the answer is in
SHOWN = 12_000  # characters of what is wrong with a change
BY_COMMAND = 0.03  # of the questions

EVERYWHERE, NAMED = "everywhere", "named"


@dataclass
class Found:
    """What a run has seen. `wrong`: a text for each change whose answers were not right."""

    changes: int = 0
    wrong: list[str] = field(default_factory=list)
    verdicts: Counter[tuple[str, str]] = field(default_factory=Counter)  # by fault and verdict, while it is there
    latest: float = 0.0  # seconds after the time-out, the most
    again: int = 0  # questions that were put again, because a node without a fault was late

    @property
    def right(self) -> int:
        return self.changes - len(self.wrong)


class Asked(NamedTuple):
    """A question: about which change, how, where, for how long."""

    change: Change
    way: str
    plane: Plane
    seconds: float

    def __str__(self) -> str:
        at = f"{self.change.kind} of {self.change.service.name} by {self.way} at {self.plane.name}"
        return f"{at} for {self.seconds:.1f} s"


class Run:
    """`rounds` are numbered; the same seed has the same faults, changes and questions, as far as
    streams are at the same replicas."""

    def __init__(self, world: World, seed: int, faults: Sequence[str]) -> None:
        self.found = Found()
        self._world, self._seed, self._faults = world, seed, list(faults)
        self._pool = ThreadPoolExecutor(2 * AT_ONCE)
        world.objects.put(SERVICES, STEADY.service())
        world.objects.put(SLICES, STEADY.slice())
        self._changes = Changes(world.objects, random.Random(seed), SERVICES_IN_ALL)
        until(self._whole, world.state)

    def _whole(self) -> bool:
        """Whether every replica and every node has the first state."""
        last = Change("all", self._changes.services[-1], self._changes.first)
        return all(
            ask(plane, last, way, LONG).last.applied for plane in self._world.planes for way in (OBJECT, REVISION)
        )

    def round(self, number: int, changes: int) -> None:
        """One fault, so many changes."""
        chance = self._changes.chance = random.Random(f"{self._seed} {number}")
        fault = self._faults[number % len(self._faults)]
        with FAULTS[fault](Setting(self._world, chance, self._world.streams())) as effect:
            found = self._during(fault, effect, chance, changes)
        self._after(f"seed {self._seed}, round {number}, {fault}", chance, found)

    # ------------------------------------------------------------ while the fault is there

    def _during(self, title: str, effect: Effect, chance: random.Random, changes: int) -> dict[Change, list[str]]:
        """What was wrong with the answer about each change."""
        self._forget()
        asked, coming = [], []
        for one in self._asked(effect, chance, changes):  # a question right after its change
            asked.append(one)
            coming.append(self._pool.submit(self._short, one, effect))
        answers = [each.result() for each in coming]
        found = {}
        for one, answer in zip(asked, answers, strict=True):
            wrong = verdict(one, answer, effect)
            self.found.verdicts[title, EVERYWHERE if answer.last.applied else NAMED] += 1
            self.found.latest = max(self.found.latest, _late(one, answer))
            found[one.change] = [f"{one}: {text}\n{answer}" for text in wrong]
        self._compare(dict(zip(asked, answers, strict=True)), found)
        if effect.said and effect.said.keys() <= effect.passing:
            self._again(effect, chance, found, "while the fault is there")
        return found

    def _asked(self, effect: Effect, chance: random.Random, changes: int) -> Iterator[Asked]:
        """Makes the changes. Where an object is poisoned, every second one is."""
        planes = [plane for plane in self._world.planes if plane.number not in effect.away]
        for number, service in enumerate(chance.sample(self._changes.services, changes)):
            if effect.poisoned is not None and number % 2 == 0:
                change = self._changes.poison(service, effect.poisoned)
            else:
                change = self._changes.one(service)
            way = chance.choice(ways(change))
            if effect.poisoned is not None:
                way = OBJECT
            if chance.random() < BY_COMMAND and way == OBJECT:
                way = COMMAND
            seconds = chance.uniform(*SHORT) if effect.said else LONG
            yield Asked(change, way, chance.choice(planes), seconds)

    def _short(self, one: Asked, effect: Effect) -> Answer:
        answer = ask(one.plane, one.change, one.way, one.seconds)
        if only_late(one, answer, effect):
            self.found.again += 1
            answer = ask(one.plane, one.change, one.way, one.seconds)
        named = {each.node_name for each in answer.last.lacking}
        self._try(one.change, [node for node in self._world.nodes if node.name not in named])
        return answer

    # ------------------------------------------------------------ when it is over

    def _after(self, title: str, chance: random.Random, found: dict[Change, list[str]]) -> None:
        mended = {}
        for change, wrong in found.items():
            mended[self._changes.mend(change.service) if change.kind == "Service poisoned" else change] = wrong
        self._again(Effect({}), chance, mended, "after the fault")
        for change, wrong in mended.items():
            self.found.changes += 1
            if wrong:
                head = f"{title}, {change.kind}"
                self.found.wrong.append(
                    "\n".join([head, *wrong, f"{self._world.streams()}", self._world.state()])[:SHOWN]
                )

    def _again(self, effect: Effect, chance: random.Random, found: Mapping[Change, list[str]], when: str) -> None:
        """Now each of them is everywhere."""
        self._forget()
        planes = [plane for plane in self._world.planes if plane.number not in effect.away]
        asked = [Asked(change, chance.choice(ways(change)), chance.choice(planes), LONG) for change in found]
        answers = list(self._pool.map(self._short, asked, repeat(effect)))
        for one, answer in zip(asked, answers, strict=True):
            if answer.error or not answer.last.applied:
                found[one.change].append(f"{when}: {one}: not everywhere\n{answer}")
        self._compare(dict(zip(asked, answers, strict=True)), found)

    # ------------------------------------------------------------ packets

    def _forget(self) -> None:
        list(self._pool.map(Node.forget, self._world.nodes))

    def _try(self, change: Change, nodes: Iterable[Node]) -> None:
        for node in nodes:
            node.send((change.service.place, *change.former))

    def _compare(self, answers: Mapping[Asked, Answer], found: Mapping[Change, list[str]]) -> None:
        """What the packets met, where the answers say that the change is there."""
        met = dict(
            zip((node.name for node in self._world.nodes), self._pool.map(Node.met, self._world.nodes), strict=True)
        )
        for one, answer in answers.items():
            if answer.error:
                continue
            named = {each.node_name for each in answer.last.lacking}
            for name in met.keys() - named:
                found[one.change].extend(f"{one}: {text}\n{answer}" for text in _differs(name, one.change, met[name]))


def _differs(name: str, change: Change, met: Mapping[tuple[str, int], set[str]]) -> list[str]:
    service, here = change.service, met.get(change.service.place, set())
    found = [] if here == service.wanted else [f"{name} is said to have it: {here} and not {set(service.wanted)}"]
    return found + [
        f"{name} is said to have it, and {place} leads to {met[place]}"
        for place in change.former
        if place != service.place and met.get(place)
    ]


def expected_of(one: Asked, effect: Effect) -> Mapping[str, Reason]:
    """What is to be said of the nodes that lack this change."""
    other = effect.poisoned is not None and one.change.kind != "Service poisoned"
    return {} if other else effect.said


def only_late(one: Asked, answer: Answer, effect: Effect) -> bool:
    """Whether the answer is as it has to be, but for a node without a fault, which did not do it in the time on a busy
    machine: it is said to be behind."""
    expected = expected_of(one, effect)
    others = [each for each in answer.last.lacking if each.node_name not in expected]
    return bool(others) and all(each.reason == pb.LACK_REASON_BEHIND for each in others)


def verdict(one: Asked, answer: Answer, effect: Effect) -> list[str]:
    """What is wrong with an answer while the fault is there."""
    if answer.error:
        return [answer.error]
    late = [f"{_late(one, answer):.2f} s after the time-out"] if _late(one, answer) > LATE else []
    expected = expected_of(one, effect)
    sure = expected.keys() - effect.passing
    if answer.last.applied:
        return late + ([f"everywhere, and {sorted(sure)} cannot have it"] if sure else [])
    named = {each.node_name: each for each in answer.last.lacking}
    if not named or not sure <= named.keys() <= expected.keys():
        late.append(f"{sorted(named)} are named, and it is {sorted(expected)}")
    known = sorted(named.keys() & expected.keys())
    return late + [f"the reason of {name}" for name in known if not expected[name].right(named[name])]


def _late(one: Asked, answer: Answer) -> float:
    return (answer.last.waited_seconds if one.way == COMMAND else answer.seconds) - one.seconds


def run(
    world: World,
    changes: int,
    seed: int,
    tell: Callable[[Found], None],
    faults: Sequence[str] = (),
    *,
    at_once: int = AT_ONCE,
) -> Found:
    """So many changes, `at_once` in each round. `tell` is called after each round."""
    world.start()
    made = Run(world, seed, _order(faults or list(FAULTS), seed))
    number = 0
    while made.found.changes < changes:
        made.round(number, min(at_once, changes - made.found.changes))
        tell(made.found)
        number += 1
    return made.found


def _order(faults: Sequence[str], seed: int) -> list[str]:
    """Each comes as often as any other, in a random order."""
    return random.Random(seed).sample(list(faults), len(faults))
