"""Column 2: the rendered nftables program on the in-memory kernel, every way a connection can go through it."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Protocol

from deltaplane.forwarding import NodeForwarding, ServiceForwarding
from nodeagent.dataplane.nftables.dataplane import NftablesDataplane
from nodeagent.dataplane.outcome import Commit
from tests.fakes.nftables.memory import MemoryKernel
from tests.fakes.nftables.trace import Packet, Trace, trace
from tests.flows.product import Product, addresses, settings
from tests.flows.scenario import PASS, PROTOCOLS, REACH, Flow, Outcome, Scenario, Step, join
from tests.flows.verdicts import Difference, differs


class Applies(Protocol):
    """The part of a `Dataplane` that takes a step."""

    def apply(
        self, services: Sequence[ServiceForwarding], node: NodeForwarding | None = None, *, complete: bool = False
    ) -> Commit:
        """See `Dataplane.apply`."""


_STOPPED = {frozenset({"reject"}): "refused", frozenset({"drop"}): "drop"}


def run(scenario: Scenario) -> list[Difference]:
    """Every flow that is not as the scenario says, and every step that cost too much. Raises `product.Missing`."""
    kernel, product = MemoryKernel(), Product(scenario)
    dataplane = NftablesDataplane(kernel, settings(scenario.view))
    dataplane.start()
    begin(dataplane, product)
    found: list[Difference] = []
    for number, step in enumerate(scenario.steps, 1):
        found += commit(dataplane, product, number, step)
        found += [d for flow in step.flows for d in differs(number, flow, outcome(kernel, scenario, flow))]
    return found


def begin(dataplane: Applies, product: Product) -> None:
    """What concerns the node is there before the first step, whose cost is then its own."""
    dataplane.apply([], product.node(), complete=True)


def commit(dataplane: Applies, product: Product, number: int, step: Step, *, counted: bool = True) -> list[Difference]:
    """Puts the step into the kernel; differences where that fails, costs more than the step allows, or repeats.

    `counted`: elements are what nftables mode counts; other modes have tests of their own for what a change costs.
    """
    changed = product.step(step)
    done = dataplane.apply(changed, product.node())
    found = [Difference(number, "commit", "no failure", failed.text) for failed in done.failed]
    most = product.most if step.operations is None else step.operations
    if counted and done.elements > most and not _is_of_the_node(step):
        found.append(Difference(number, "elements written", f"at most {most}", str(done.elements)))
    again = dataplane.apply(list(product.forwarding.values()), product.node(), complete=True)
    if again.messages and not again.failed:
        found.append(Difference(number, "the same again", "nothing written", f"{again.messages} messages"))
    return found


def _is_of_the_node(step: Step) -> bool:
    """Ranges of Services and the node's addresses are elements of their own, which no Service pays for."""
    return step.operations is None and any(thing["kind"] in ("ServiceCIDR", "Node") for thing in step.apply)


def outcome(kernel: MemoryKernel, scenario: Scenario, flow: Flow) -> Outcome:
    """What becomes of the flow."""
    packet = Packet(ip_address(flow.source).packed, ip_address(flow.to).packed, PROTOCOLS[flow.protocol], flow.port)
    node = addresses((*scenario.view.addresses, "127.0.0.1", "::1"))
    return _outcome(trace(kernel, packet, node=node), packet)


def _outcome(found: Trace, packet: Packet) -> Outcome:
    if not found.ends:
        return Outcome(_STOPPED.get(found.stopped, "/".join(sorted(found.stopped))))
    ends = frozenset((join(str(ip_address(address)), port), masqueraded) for address, port, masqueraded in found.ends)
    if found.stopped:
        return Outcome(f"{Outcome(REACH, ends)} or {'/'.join(sorted(found.stopped))}")
    return Outcome(PASS) if found.ends == {(packet.destination, packet.port, False)} else Outcome(REACH, ends)
