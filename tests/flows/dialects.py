"""A scenario as a column is held to it: what some columns cannot do, or do otherwise, each with its reason.

Two kinds: what a scenario itself lists under `instead`, and what holds for every flow of a mode.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tests.flows.columns import BY_NAME, Column
from tests.flows.model import Reading
from tests.flows.product import Product
from tests.flows.scenario import DROP, PASS, REFUSED, Flow, Instead, Outcome, Scenario, Step

FROM_THE_NODE = "the agent itself connects to the endpoint, which therefore sees the node"
_LEFT_ALONE = {
    "iptables": (
        frozenset({REFUSED, DROP}),
        "iptables mode knows the addresses and ports of Services only: others of their ranges are left alone (F5, F6)",
    ),
    "ipvs": (
        frozenset({DROP}),
        "ipvs mode knows the addresses of Services only: others of their ranges are left alone (F6)",
    ),
}
"""By mode: the outcomes that become PASS where no Service has the address and port."""


def heard(scenario: Scenario, column: str) -> tuple[Scenario, tuple[str, ...]]:
    """The scenario with the outcomes of this column, and the reasons for those that are not the usual ones."""
    hearing = _Hearing(scenario, BY_NAME[column])
    steps = tuple(hearing.step(step, number) for number, step in enumerate(scenario.steps, 1))
    return replace(scenario, steps=steps), tuple(dict.fromkeys(hearing.reasons))


class _Hearing:
    def __init__(self, scenario: Scenario, column: Column) -> None:
        self.reasons: list[str] = []
        self._column = column
        self._others = [one for one in scenario.instead if _concerns(one, scenario.family, column.groups)]
        self._product = Product(scenario) if column.mode in _LEFT_ALONE else None

    def step(self, step: Step, number: int) -> Step:
        reading = None
        if self._product is not None:
            self._product.step(step)
            reading = Reading(self._product)
        others = [one for one in self._others if not one.steps or number in one.steps]
        return replace(step, flows=tuple(self._flow(flow, others, reading) for flow in step.flows))

    def _flow(self, flow: Flow, others: Iterable[Instead], reading: Reading | None) -> Flow:
        for instead in others:
            for given in instead.flows:
                if given.place == flow.place:
                    self.reasons.append(instead.because)
                    return replace(flow, expected=given.expected, manners=given.manners)
        if reading is not None and not reading.knows(flow):
            return self._unknown(flow)
        return self._from_the_node(flow) if self._column.name == "userspace" else flow

    def _unknown(self, flow: Flow) -> Flow:
        """What becomes of a connection to what nobody has."""
        kinds, reason = _LEFT_ALONE[self._column.mode]
        if flow.expected.kind not in kinds:
            return flow
        self.reasons.append(reason)
        return replace(flow, expected=Outcome(PASS))

    def _from_the_node(self, flow: Flow) -> Flow:
        ends = frozenset((end, True) for end, _ in flow.expected.ends)
        if ends != flow.expected.ends:
            self.reasons.append(FROM_THE_NODE)
        return replace(flow, expected=Outcome(flow.expected.kind, ends))


def _concerns(instead: Instead, family: int, groups: Iterable[str]) -> bool:
    return family in instead.families and not set(instead.groups).isdisjoint(groups)
