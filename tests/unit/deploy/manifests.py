"""The documents of deploy/kustomize/base, read without a cluster; the tests beside this file ask them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[3]
BASE = REPOSITORY / "deploy" / "kustomize" / "base"


def documents() -> list[dict[str, Any]]:
    """Every object of the base, as written: the kustomization itself is none."""
    files = sorted(path for path in BASE.glob("*.yaml") if path.name != "kustomization.yaml")
    return [document for path in files for document in yaml.safe_load_all(path.read_text()) if document]


def find(kind: str, name: str) -> dict[str, Any]:
    """The one object of that kind and name."""
    (found,) = [each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def pod(kind: str, name: str) -> dict[str, Any]:
    """The pod a workload makes."""
    spec: dict[str, Any] = find(kind, name)["spec"]["template"]["spec"]
    return spec


def container(kind: str, name: str) -> dict[str, Any]:
    """The only container of a workload."""
    (only,) = pod(kind, name)["containers"]
    found: dict[str, Any] = only
    return found
