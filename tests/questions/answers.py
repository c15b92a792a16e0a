"""What the node's own explanation answers: from the applied state, and cross-checked with the kernel, as an agent does.

`Node` stands for the agent: it hands the product's state to `nodeagent.inspection`, and the dataplane that wrote it.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, cast

from deltaplane.explain import slices_by_service
from deltaplane.frontends import Frontends
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service, ServiceName
from deltaplane.v1 import agent_pb2, views_pb2
from nodeagent.config import AgentSettings
from nodeagent.dataplane.api import Dataplane
from nodeagent.inspection.facts import Facts, site_of
from nodeagent.inspection.reading import explain_here
from tests.flows.product import Product
from tests.flows.scenario import DROP, PASS, REACH, REFUSED, Outcome
from tests.questions.questions import Question

_KINDS = {
    views_pb2.FATE_REFUSED: REFUSED,
    views_pb2.FATE_DROPPED: DROP,
    views_pb2.FATE_NOT_SERVED: PASS,
}


class _Objects:
    """The part of the agent's mirror that explanations read."""

    def __init__(self, product: Product) -> None:
        objects = list(product.world.objects())
        self.services: dict[ServiceName, Service] = {
            (each.namespace, each.name): each for each in objects if isinstance(each, Service)
        }
        self._slices = slices_by_service(each for each in objects if isinstance(each, EndpointSlice))

    def slices_of(self, namespace: str, name: str) -> Sequence[EndpointSlice]:
        return sorted(self._slices.get((namespace, name), ()), key=lambda piece: piece.name)


class Node:
    """The agent of one moment. `own`: every address of the machine."""

    def __init__(self, product: Product, dataplane: Dataplane, settings: AgentSettings, own: Sequence[str]) -> None:
        objects, claims = _Objects(product), Frontends()
        for name, service in objects.services.items():
            claims.put(ObjectKey(Kind.SERVICE, *name), service)
        self._facts = Facts(
            mirror=cast(Any, objects), frontends=claims, view=product.node_view(), node=product.node(),
            dataplane=dataplane, failed=(), epoch=b"", rev=0, complete=True, in_step=True, drifted=False,
            welcomed=True, brake=None,
        )  # fmt: skip
        self._site = site_of(self._facts, settings, {ip_address(text).packed for text in own})

    def explain(self, question: Question) -> agent_pb2.ExplainHereResponse:
        """As `deltaplane explain` has it from the agent's socket."""
        connection = views_pb2.Connection(
            source=question.source, address=question.to, port=question.port, protocol=question.protocol
        )
        return explain_here(self._facts, self._site, agent_pb2.ExplainHereRequest(connection=connection))


def outcome(said: agent_pb2.ExplainHereResponse) -> Outcome:
    """The answer in the corpus' words."""
    found = said.explanation
    if found.fate != views_pb2.FATE_REACHES:
        return Outcome(_KINDS[found.fate])
    return Outcome(REACH, frozenset((choice.endpoint, choice.masqueraded) for choice in found.choices))


def doubts(said: agent_pb2.ExplainHereResponse) -> list[str]:
    """Where the kernel is not what the answer was computed from, or could not be asked."""
    return [*said.differences, *([said.kernel_error] if said.kernel_error else [])]
