"""kube-proxy's columns: itself, in a mode of its own, on the same objects, with the same packets."""

from __future__ import annotations

import time

from tests.flows.network import Network
from tests.flows.packets import Clients, prepare, settle
from tests.flows.reference import Reference
from tests.flows.scenario import Scenario, Step
from tests.flows.verdicts import Difference

_NODE_EVENT = 0.5  # seconds: no other watch tells when kube-proxy has seen its Node change


def run(scenario: Scenario, network: Network, reference: Reference) -> list[Difference]:
    """Every flow and health check that is not as the scenario says."""
    settle(network, scenario)
    network.forget_flows()  # a client with a port of the scenario before would go where it was sent then
    reference.options(scenario.view)
    found, clients = list[Difference](), Clients(network)
    try:
        for number, step in enumerate(scenario.steps, 1):
            _write(reference, step)
            prepare(network, step, scenario.family)
            reference.synced()
            found += clients.differences(number, step)
            found += _health(reference, scenario, number, step)
    finally:
        clients.close()
        reference.empty()
    return found


def order(scenario: Scenario) -> tuple[object, ...]:
    """Scenarios of equal options come together, since kube-proxy is started again for others."""
    view = scenario.view
    return bool(view.cluster_cidr), view.masquerade_all, view.nodeport_addresses, view.zone, scenario.id


def _write(reference: Reference, step: Step) -> None:
    for thing in step.apply:
        reference.apply(thing)
    for text in step.delete:
        reference.delete(text)
    if any(thing["kind"] == "Node" for thing in step.apply):
        time.sleep(_NODE_EVENT)


def _health(reference: Reference, scenario: Scenario, number: int, step: Step) -> list[Difference]:
    ports = {
        thing["metadata"]["name"]: thing["spec"]["healthCheckNodePort"]
        for past in scenario.steps[:number]
        for thing in past.apply
        if thing["kind"] == "Service" and "healthCheckNodePort" in thing["spec"]
    }
    found = []
    for name, expected in step.health:
        seen = reference.health(scenario.view.addresses[0], ports[name])
        if seen != expected:
            found.append(Difference(number, f"health check of {name}", str(expected), str(seen)))
    return found
