"""What real packets meet: a scenario's endpoints listening, its clients connecting, and what became of it."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from tests.flows.network import BYSTANDER, Network
from tests.flows.scenario import DROP, PASS, REACH, REFUSED, End, Flow, Outcome, Step, split
from tests.flows.verdicts import Difference, differs
from tools.lab import client

_MANY = 20  # endpoints in a slice; of longer ones only those listen that a flow names
_SHORT, _LONG = 0.4, 4.0  # seconds to wait where nothing should answer, and where something should
_STICKY_TRIES = 12
# A refusal or a drop is mostly waiting: a TCP client that is refused over IPv6 before connect() is through learns of
# it with its second SYN.
_pool = ThreadPoolExecutor(12, "clients")
_KINDS = {client.REFUSED: REFUSED, client.TIMEOUT: DROP}


def prepare(network: Network, step: Step, family: int) -> None:
    """Endpoints listen, and bystanders wherever a flow goes."""
    for address, port, protocol in _endpoints(step, family):
        network.listen(address, port, protocol)
    for flow in step.flows:
        for end, _ in flow.expected.ends:
            network.listen(*split(end), flow.protocol)
    for flow in step.flows:
        network.stand_by(flow.to, flow.port, flow.protocol)


def _endpoints(step: Step, family: int) -> Iterator[tuple[str, int, str]]:
    for thing in step.apply:
        if (
            thing["kind"] != "EndpointSlice"
            or thing["addressType"] != f"IPv{family}"
            or len(thing["endpoints"]) > _MANY
        ):
            continue
        for endpoint in thing["endpoints"]:
            for port in thing.get("ports", ()):
                if endpoint["addresses"] and port.get("port"):
                    yield endpoint["addresses"][0], port["port"], port.get("protocol", "TCP").lower()


def differences(network: Network, number: int, step: Step) -> list[Difference]:
    """Every flow of the step that is not as it says. SCTP is left out: few kernels have its sockets."""
    flows = [flow for flow in step.flows if flow.protocol != "sctp"]
    for flow in flows:
        network.host(flow.source)
    seen = _pool.map(lambda flow: observe(network, flow), flows)
    return [
        d for flow, (outcome, sticky) in zip(flows, seen, strict=True) for d in differs(number, flow, outcome, sticky)
    ]


def observe(network: Network, flow: Flow) -> tuple[Outcome, bool | None]:
    """What becomes of connections, as many as it takes to meet every endpoint; and whether they all met one."""
    wanted = max(1, len(flow.expected.ends))
    seen: set[End] = set()
    tries = _STICKY_TRIES if flow.sticky else 1 if wanted == 1 else 40 * wanted
    for attempt in range(tries + 2):
        kind, end = _connect(network, flow)
        if end is None:
            return Outcome(kind), None
        seen.add(end)
        if not flow.sticky and len(seen) >= wanted > 1 and attempt >= 8 * wanted:
            break
    if flow.sticky and len(seen) == 1 and seen <= flow.expected.ends:
        return flow.expected, True
    return Outcome(REACH, frozenset(seen)), None


def _connect(network: Network, flow: Flow) -> tuple[str, End | None]:
    patience = _SHORT if flow.expected.kind == DROP else _LONG
    found = client.connect(
        network.host(flow.source), flow.to, flow.port, flow.protocol, timeout=patience, source=(flow.source, 0)
    )
    if not found.answered:
        return _KINDS.get(found.kind, found.kind), None
    if found.name.startswith(BYSTANDER):
        return PASS, None
    return REACH, (found.name, found.seen != flow.source)
