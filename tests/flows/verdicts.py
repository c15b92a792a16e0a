"""Differences between what a scenario says and what a column saw, and the two lists that explain some of them.

`pending.yaml`: scenarios that wait for a part of the product. `deviations.yaml`: where kube-proxy is wrong and the
product is not, or a kernel dialect cannot say it. Both give reasons by column, or group of columns, and are strict: an
explanation that explains nothing is a failure. Where the other outcome is known, a scenario's `instead` says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.flows.columns import BY_NAME
from tests.flows.scenario import REACH, Flow, Outcome, Scenario

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Difference:
    step: int
    what: str
    expected: str
    seen: str

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}: expected {self.expected}, saw {self.seen}"


class NotHere(Exception):
    """The column cannot hold this scenario at all on this machine; the text says why."""


def differs(step: int, flow: Flow, seen: Outcome, sticky: bool | None = None) -> list[Difference]:
    """The difference between a flow and what was seen; `sticky` None: the column cannot tell."""
    what = flow.text.partition("->")[0].strip()
    if seen != flow.expected:
        return [Difference(step, what, str(flow.expected), str(seen))]
    if sticky is not None and sticky != flow.sticky and seen.kind == REACH:
        return [Difference(step, what, _stickiness(flow.sticky), _stickiness(sticky))]
    return []


def _stickiness(sticky: bool) -> str:
    return "one endpoint kept" if sticky else "endpoints by chance"


@cache
def pending() -> dict[str, dict[str, str]]:
    """Reasons by column and scenario name."""
    found: dict[str, dict[str, str]] = _read("pending.yaml")
    return found


@cache
def deviations() -> dict[str, dict[str, str]]:
    """Reasons by column (or group of columns) and scenario name, where it is known to do otherwise."""
    found: dict[str, dict[str, str]] = _read("deviations.yaml")
    return found


def _read(name: str) -> Any:
    path = HERE / name
    return (yaml.safe_load(path.read_text("utf-8")) if path.exists() else None) or {}


def explanation(column: str, scenario: Scenario) -> str:
    """Why a difference in this column is known; "" where it is not."""
    lists = [known[group] for known in (pending(), deviations()) for group in BY_NAME[column].groups if group in known]
    return next((reason for reasons in lists if (reason := _find(reasons, scenario))), "")


def _find(reasons: dict[str, str], scenario: Scenario) -> str:
    return reasons.get(scenario.id) or reasons.get(scenario.name, "")
