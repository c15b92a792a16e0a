# ruff: noqa: T201  (it speaks to a terminal)
"""`trace.py NAMESPACE/NAME <traces.json`: the trace of that object's change from Jaeger's answer, as text."""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    wanted = sys.argv[1]
    for trace in json.load(sys.stdin)["data"]:
        if any(
            wanted in str(tag["value"]) for span in trace["spans"] for tag in span["tags"] if "object" in tag["key"]
        ):
            show(trace["spans"])
            return 0
    print(f"no trace of {wanted}")
    return 1


def show(spans: list[dict[str, Any]]) -> None:
    """One line a span: when it began and how long it took, in milliseconds, and of which node."""
    spans = sorted(spans, key=lambda span: span["startTime"])
    began = spans[0]["startTime"]
    for span in spans:
        node = next((tag["value"] for tag in span["tags"] if tag["key"] == "deltaplane.node"), "")
        at, took = (span["startTime"] - began) / 1000, span["duration"] / 1000
        print(f"{at:9.2f} +{took:8.2f}  {span['operationName']:14} {node}")


if __name__ == "__main__":
    sys.exit(main())
