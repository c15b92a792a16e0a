"""The metrics of the endpoints controllers, and that the manual names each."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

from controlplane.endpoints.controller import Controller
from controlplane.endpoints.figures import EndpointsFigures
from controlplane.endpoints.queue import Queue
from controlplane.endpoints.runner import Runner
from controlplane.facts import Following
from controlplane.lease import Lease
from controlplane.lease_figures import LeaseFigures
from controlplane.report import Report

MANUAL = Path(__file__).parents[4] / "docs" / "operating.md"


def registry() -> CollectorRegistry:
    nothing: Any = None
    runner = Runner(None, ("endpointslice",), Counter(), Report())
    runner.writes["endpointslices", "create", "success"] = 3
    runner.syncs["endpointslice", "conflict"] = 2
    runner.seconds["endpointslice"] = 1.5
    runner.controllers = [Controller("endpointslice", nothing, Queue(), runner.syncs)]
    runner.controllers[0].changed([("shop", "web")])
    runner.lease = Lease(nothing, "ns", "deltaplane-endpoints", "me")
    runner.lease.held = True
    found = CollectorRegistry()
    found.register(EndpointsFigures(runner))
    found.register(LeaseFigures(lambda: [runner.lease]))
    return found


def test_they_say_what_was_written_and_what_waits() -> None:
    page = registry()
    labels = {"resource": "endpointslices", "verb": "create", "result": "success"}
    assert page.get_sample_value("deltaplane_endpoints_writes_total", labels) == 3
    labels = {"controller": "endpointslice", "result": "conflict"}
    assert page.get_sample_value("deltaplane_endpoints_syncs_total", labels) == 2
    assert page.get_sample_value("deltaplane_endpoints_queue_depth", {"controller": "endpointslice"}) == 1
    assert page.get_sample_value("deltaplane_lease_held", {"lease": "deltaplane-endpoints"}) == 1


def test_the_manual_names_every_metric_of_the_controllers_and_no_other() -> None:
    lines = generate_latest(registry()).decode().splitlines()
    shown = {line.split()[2] for line in lines if line.startswith("# TYPE")}
    section = MANUAL.read_text().partition("## The endpoints controllers")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(deltaplane_(?:endpoints|lease)_[a-z_]+)", section)) == shown


def test_what_the_controllers_follow_is_told_apart_from_what_the_stream_does() -> None:
    runner = Runner(None, ("endpointslice",), Counter(), Report())
    reflector: Any = SimpleNamespace(following=Following("services", 1))
    runner._reflectors = [reflector]
    assert [one.resource for one in runner.following] == ["services for endpoints"]
