"""Every state of the corpus in a real kernel, random questions about each, a packet for every question."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from deltaplane.frontends import Frontends
from deltaplane.model import Kind, ObjectKey, Service
from tests.flows.columns import Column
from tests.flows.interpreter import begin
from tests.flows.machines import Machine, machine, settings, try_here
from tests.flows.network import Network
from tests.flows.packets import own_addresses, settle
from tests.flows.product import Product
from tests.flows.scenario import Outcome, Scenario, Step
from tests.questions.answers import Node, doubts, outcome
from tests.questions.fates import agrees, fate, met_itself, prepare
from tests.questions.questions import Asker, Question
from tools.lab.rules import run

AT_A_TIME = 12  # packets under way: a drop is mostly waiting
_MANY = 20  # endpoints: a scenario with larger slices has more than there are hosts for
_SCOPE = {"EndpointSlice"}


@dataclass
class Found:
    """What a run has seen. `wrong`: a line for each answer that was not right."""

    asked: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def add(self, other: Found) -> None:
        self.asked += other.asked
        self.kinds += other.kinds
        self.wrong += other.wrong


def fit(scenarios: Sequence[Scenario], column: Column) -> list[Scenario]:
    """Those that the column can hold, and that have no more endpoints than there are hosts for."""
    return [each for each in scenarios if not each.reason_not_in(column.name) and not _is_large(each)]


def _is_large(scenario: Scenario) -> bool:
    slices = (thing for step in scenario.steps for thing in step.apply if thing["kind"] in _SCOPE)
    return any(len(piece["endpoints"]) > _MANY for piece in slices)


def questions(
    scenarios: Sequence[Scenario], column: Column, count: int, seed: int, tell: Callable[[str, Found], None]
) -> Found:
    """`count` questions, as many about each state. Raises `NotHere` where this machine cannot do the mode."""
    states = sum(len(each.steps) for each in scenarios)
    shares = iter([count // states + (number < count % states) for number in range(states)])
    whole, network = Found(), Network()
    try:
        try_here(network, column)
        for scenario in scenarios:
            for part in _scenario(scenario, network, column, shares, seed):
                whole.add(part)
            tell(scenario.id, whole)
    finally:
        network.close()
    return whole


def _scenario(
    scenario: Scenario, network: Network, column: Column, shares: Iterator[int], seed: int
) -> Iterator[Found]:
    settle(network, scenario)
    product = Product(scenario)
    with machine(network, column, scenario.view) as node:
        begin(node, product)
        for number, step in enumerate(scenario.steps, 1):
            _apply(node, product, step)
            run(network.node, "conntrack", "-F", check=False)  # clients of the state before are none of this one
            chance = random.Random(f"{seed} {scenario.id} {number}")
            asker = Asker(product, own_addresses(scenario), chance)
            asked = [asker.question() for _ in range(next(shares))]
            yield _State(f"{scenario.id} step {number}", network, _agent(node, product, scenario, column, network)).ask(
                asked
            )


def _apply(node: Machine, product: Product, step: Step) -> None:
    """As an agent does it: each Service without what is another's."""
    product.step(step)
    claims = Frontends()
    for thing in product.world.objects():
        if isinstance(thing, Service):
            claims.put(ObjectKey(Kind.SERVICE, thing.namespace, thing.name), thing)
    wanted = [claims.grant(each) for each in product.forwarding.values()]
    node.apply(wanted, product.node(), complete=True)


def _agent(node: Machine, product: Product, scenario: Scenario, column: Column, network: Network) -> Node:
    given = settings(column.mode, scenario.view)
    return Node(product, node.dataplane, given, network.addresses())


class _State:
    """One state that is in the kernel."""

    def __init__(self, name: str, network: Network, agent: Node) -> None:
        self._name, self._network, self._agent = name, network, agent

    def ask(self, asked: Sequence[Question]) -> Found:
        """All of them: the answers first, then the packets, many at a time."""
        found = Found()
        said = [self._explained(question, found) for question in asked]
        prepare(self._network, asked, said)
        with ThreadPoolExecutor(AT_A_TIME, "packets") as pool:
            seen = list(pool.map(lambda pair: fate(self._network, *pair), zip(asked, said, strict=True)))
        for question, answer, met in zip(asked, said, seen, strict=True):
            found.asked += 1
            found.kinds[met.kind] += 1
            if not agrees(self._network, question, answer, met) and not met_itself(question, answer, met):
                found.wrong.append(f"{self._name}: {question}: said {answer}, the packet met {met}")
        return found

    def _explained(self, question: Question, found: Found) -> Outcome:
        with self._network.node.entered():  # where the programs of some modes run
            said = self._agent.explain(question)
        found.wrong += [f"{self._name}: {question}: read back: {text}" for text in doubts(said)]
        return outcome(said)
