"""Every scenario of the corpus through ipvs mode on the in-memory kernel, each flow traced through rules and sets."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from nodeagent.dataplane.ipvs.dataplane import IpvsDataplane
from nodeagent.dataplane.ipvs.settings import Settings
from tests.fakes.ipvs.memory import MemoryKernel
from tests.fakes.ipvs.trace import Packet, trace
from tests.flows.corpus import scenarios
from tests.flows.dialects import heard
from tests.flows.interpreter import begin, commit
from tests.flows.product import Product, addresses, cluster_cidrs
from tests.flows.scenario import PASS, PROTOCOLS, REACH, Flow, Outcome, Scenario, join
from tests.flows.verdicts import Difference, differs

STOPPED = {frozenset({"reject"}): "refused", frozenset({"drop"}): "drop"}


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: scenario.id)
def test_flows(scenario: Scenario) -> None:
    scenario, _ = heard(scenario, "ipvs")
    kernel = MemoryKernel(addresses=addresses(scenario.view.addresses))
    product = Product(scenario)
    view = scenario.view
    dataplane = IpvsDataplane(kernel, Settings(cluster_cidrs(view), masquerade_all=view.masquerade_all))
    dataplane.start()
    begin(dataplane, product)
    found: list[Difference] = []
    for number, step in enumerate(scenario.steps, 1):
        found += commit(dataplane, product, number, step, counted=False)
        found += [d for flow in step.flows for d in differs(number, flow, outcome(kernel, scenario, flow))]
    assert found == []


def outcome(kernel: MemoryKernel, scenario: Scenario, flow: Flow) -> Outcome:
    """What becomes of the flow."""
    packet = Packet(ip_address(flow.source).packed, ip_address(flow.to).packed, PROTOCOLS[flow.protocol], flow.port)
    found = trace(kernel, packet, addresses((*scenario.view.addresses, "127.0.0.1", "::1")))
    if not found.ends:
        return Outcome(STOPPED.get(found.stopped, "/".join(sorted(found.stopped))))
    ends = frozenset((join(str(ip_address(address)), port), masqueraded) for address, port, masqueraded in found.ends)
    return Outcome(PASS) if found.ends == {(packet.destination, packet.port, False)} else Outcome(REACH, ends)
