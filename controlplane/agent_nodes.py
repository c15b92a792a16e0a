"""Which Nodes the agents' DaemonSet takes, by its nodeSelector. Pure; `cluster` passes Nodes, `inspection` asks.

A Node on the wire has no labels, since agents need none: of them is kept here what a Node lacks. Nothing is decided by
it; answers say it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from controlplane.facts import Fact
from deltaplane.model import Kind

_ALL: Mapping[str, str] = MappingProxyType({})


class AgentNodes:
    """`selector`: labels that a Node must have for an agent to run there; empty: an agent runs on every Node."""

    def __init__(self, selector: Mapping[str, str] = _ALL) -> None:
        self._selector = dict(selector)
        self._missing: dict[str, tuple[str, ...]] = {}

    def noted(self, facts: Iterable[Fact]) -> Iterable[Fact]:
        """The facts, each Node among them noted as it passes."""
        return map(self._note, facts) if self._selector else facts

    def forget(self) -> None:
        """A complete list of Nodes follows."""
        self._missing.clear()

    def missing(self, name: str) -> tuple[str, ...]:
        """The labels that the Node lacks, KEY=VALUE each; empty: none, or there is no such Node."""
        return self._missing.get(name, ())

    def _note(self, fact: Fact) -> Fact:
        if fact.key.kind is Kind.NODE:
            labels = fact.labels or {}
            lacks = [f"{key}={value}" for key, value in self._selector.items() if labels.get(key) != value]
            if lacks and fact.object is not None:
                self._missing[fact.key.name] = tuple(lacks)
            else:
                self._missing.pop(fact.key.name, None)
        return fact
