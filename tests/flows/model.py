"""Column 1: forwarding entries read as their docstrings say, without any kernel's words.

A pure interpreter of `deltaplane.forwarding`: finds the entry that a connection is addressed to, the client's class,
the list and verdict for it, and who is masqueraded.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from deltaplane.forwarding import Entry, FrontendKind, Hairpin, Masquerade, Target, Verdict
from deltaplane.model import Kind, ObjectKey
from tests.flows.product import Product, addresses, cluster_cidrs
from tests.flows.scenario import DROP, PASS, PROTOCOLS, REACH, REFUSED, End, Flow, Outcome, Scenario, Step, join
from tests.flows.verdicts import Difference, differs

_VERDICTS = {Verdict.REJECT: REFUSED, Verdict.DROP: DROP}


def run(scenario: Scenario) -> list[Difference]:
    """Every flow and health check that is not as the scenario says. Raises `product.Missing`."""
    product = Product(scenario)
    found: list[Difference] = []
    for number, step in enumerate(scenario.steps, 1):
        product.step(step)
        reading = Reading(product)
        found += [d for flow in step.flows for d in differs(number, flow, reading.outcome(flow), reading.sticky(flow))]
        found += _health(product, number, step)
    return found


def _health(product: Product, number: int, step: Step) -> list[Difference]:
    found = []
    for name, expected in step.health:
        namespace, _, service = name.rpartition("/")
        check = product.forwarding[ObjectKey(Kind.SERVICE, namespace or "default", service)].health_check
        counts = dict(check.local_ready) if check else {}
        if counts.get(product.family, -1) != expected:
            found.append(Difference(number, f"health check of {name}", str(expected), str(counts)))
    return found


class Reading:
    """The entries of one moment."""

    def __init__(self, product: Product) -> None:
        self._view, node = product.view, product.node()
        self._entries = [entry for one in product.forwarding.values() for entry in one.entries]
        self._hairpins = {pin for one in product.forwarding.values() for pin in one.hairpins}
        self._own, self._node_ports = addresses(self._view.addresses), frozenset(node.node_port_addresses)
        self._everywhere = node.match_all_families
        self._cidrs, self._pod_cidrs = node.service_cidrs, node.pod_cidrs

    def knows(self, flow: Flow) -> bool:
        """Whether a Service has the address and port."""
        return self._entry(flow) is not None

    def sticky(self, flow: Flow) -> bool:
        entry = self._entry(flow)
        return entry is not None and entry.affinity_seconds > 0

    def outcome(self, flow: Flow) -> Outcome:
        """What becomes of the connection."""
        entry = self._entry(flow)
        if entry is None:
            return Outcome(self._unserved(flow))
        source = ip_address(flow.source)
        if entry.source_ranges and not any(source in ip_network(text) for text in entry.source_ranges):
            return Outcome(DROP)
        targets, verdict = self._list(entry, self._class(flow))
        if not targets:
            return Outcome(_VERDICTS[verdict])
        return Outcome(REACH, frozenset(self._end(entry, target, flow) for target in targets))

    @staticmethod
    def _list(entry: Entry, client: str) -> tuple[tuple[Target, ...], Verdict]:
        if entry.local_targets is None or client in ("pod", "node"):
            return entry.targets, entry.verdict
        return entry.local_targets, entry.external_verdict

    def _entry(self, flow: Flow) -> Entry | None:
        to, wanted = ip_address(flow.to).packed, (PROTOCOLS[flow.protocol], flow.port)
        named = [e for e in self._entries if (e.frontend.protocol, e.frontend.port) == wanted]
        for entry in named:
            if entry.frontend.address == to:
                return entry
        if to not in self._node_ports and not (flow.family in self._everywhere and to in self._own):
            return None
        ports = [e for e in named if e.frontend.kind is FrontendKind.NODE_PORT and e.frontend.family == flow.family]
        return ports[0] if ports else None

    def _unserved(self, flow: Flow) -> str:
        to = ip_address(flow.to)
        if any(e.frontend.kind is FrontendKind.CLUSTER_IP and e.frontend.address == to.packed for e in self._entries):
            return REFUSED
        return DROP if any(to in ip_network(text) for text in self._cidrs) else PASS

    def _class(self, flow: Flow) -> str:
        source = ip_address(flow.source)
        if source.packed in self._own or source.is_loopback:
            return "node"
        if not self._is_detected(flow):
            return "external"
        networks = (ip_network(text) for text in self._pod_cidrs)
        return "pod" if any(source in network for network in networks) else "other-pod"

    def _detector(self, flow: Flow) -> IPv4Network | IPv6Network | None:
        networks = map(ip_network, cluster_cidrs(self._view))
        return next((network for network in networks if network.version == flow.family), None)

    def _is_detected(self, flow: Flow) -> bool:
        network = self._detector(flow)
        return network is not None and ip_address(flow.source) in network

    def _end(self, entry: Entry, target: Target, flow: Flow) -> End:
        hairpin = Hairpin(target.address, entry.frontend.protocol, target.port) in self._hairpins
        to_itself = hairpin and ip_address(flow.source).packed == target.address
        end = join(str(ip_address(target.address)), target.port)
        return end, to_itself or self._is_masqueraded(entry, flow)

    def _is_masqueraded(self, entry: Entry, flow: Flow) -> bool:
        if entry.masquerade is Masquerade.OFF_CLUSTER:
            return self._view.masquerade_all or (self._detector(flow) is not None and not self._is_detected(flow))
        if entry.masquerade is Masquerade.ALWAYS:
            return True
        return self._class(flow) == "node"
