"""All scenarios: one YAML file each, those made from tables, and the IPv6 twin of every one that has one.

A file is a scenario in IPv4; `families` says for which families it is there: [4, 6] unless said.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.flows import categorisation, policies, sizes
from tests.flows.scenario import ADDRESSES, CLIENTS, CLUSTER_CIDR, Scenario, parse
from tests.flows.twin import twin

FOLDER = Path(__file__).parent / "corpus"
Document = Mapping[str, Any]


@cache
def scenarios() -> tuple[Scenario, ...]:
    """Every scenario, sorted by name and family. Raises `scenario.Unreadable`."""
    made = [scenario for name, document in _documents() for scenario in of(name, document)]
    return tuple(sorted(made, key=lambda scenario: scenario.id))


def _documents() -> Iterator[tuple[str, Document]]:
    for path in sorted(FOLDER.glob("*.yaml")):
        yield path.stem, yaml.safe_load(path.read_text("utf-8"))
    yield from policies.documents()
    yield from categorisation.documents()
    yield from sizes.documents()


def of(name: str, document: Document) -> Iterator[Scenario]:
    """The scenarios of one document."""
    whole = {**document, "node": {"addresses": ADDRESSES, "cluster-cidr": CLUSTER_CIDR, **document.get("node", {})}}
    for family in document.get("families", (4, 6)):
        yield parse(name, family, twin(whole) if family == 6 else whole, twin(CLIENTS) if family == 6 else CLIENTS)
