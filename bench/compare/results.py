"""What was measured, kept: a JSON file per size and contender, an entry per scenario. Called by `main` and `tables`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench import machine

FOLDER = Path(__file__).parents[2] / "build" / "compare"


def path(size: str, name: str) -> Path:
    return FOLDER / size / f"{name}.json"


def load(size: str, name: str) -> dict[str, Any]:
    """By scenario; nothing where nothing was measured."""
    file = path(size, name)
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def keep(size: str, name: str, scenario: str, raw: dict[str, Any]) -> None:
    """Replaces one scenario's entry, with when and where it was measured."""
    _write(path(size, name), load(size, name) | {scenario: raw | {"measured": machine.description()}})


def drop(size: str, name: str, scenario: str) -> None:
    """Forgets one scenario's entry."""
    _write(path(size, name), {key: raw for key, raw in load(size, name).items() if key != scenario})


def _write(file: Path, found: dict[str, Any]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(found, indent=1) + "\n")
    beside.replace(file)


def add(size: str, name: str, scenario: str, raw: dict[str, Any]) -> None:
    """One more round of it."""
    rounds = load(size, name).get(scenario, {}).get("rounds", [])
    keep(size, name, scenario, {"rounds": [*rounds, raw]})


def sizes() -> Iterator[str]:
    """Of which there is something, smallest first."""
    folders = [folder.name for folder in FOLDER.iterdir()] if FOLDER.exists() else []
    yield from sorted(folders, key=lambda name: tuple(int(number) for number in name.split("x")))
