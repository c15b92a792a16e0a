"""What `deltaplane.explain` answers to the flows of a scenario, as outcomes to compare.

Runs the product's own explanation over the corpus, beside the column `model`, which reads entries independently.
"""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from msgspec.structs import replace

from deltaplane.explain import Answer, Fate, Listed, Question, Site, explain, manner_of, slices_by_service
from deltaplane.frontends import Frontends
from deltaplane.model import EndpointSlice, Kind, ObjectKey, Service
from deltaplane.resolve import NodeView
from tests.flows.product import Product, addresses, cluster_cidrs
from tests.flows.scenario import DROP, NODE_NAME, PASS, PROTOCOLS, REACH, REFUSED, Flow, Outcome, Scenario, join
from tests.flows.verdicts import Difference, differs

_LOOPBACK = ip_network("127.0.0.0/8")
_KINDS = {Fate.REFUSED: REFUSED, Fate.DROPPED: DROP, Fate.NOT_SERVED: PASS}


def run(scenario: Scenario, mode: str = "") -> list[Difference]:
    """Every flow that the explanation says something else of than the scenario. Raises `product.Missing`.

    `mode`: the node's proxy mode, nftables mode where empty.
    """
    product = Product(scenario)
    found: list[Difference] = []
    for number, step in enumerate(scenario.steps, 1):
        product.step(step)
        explained = Explained(product, mode)
        for flow in step.flows:
            answer = explained.answer(flow)
            sticky = answer.entry is not None and answer.entry.affinity_seconds > 0
            found += differs(number, flow, outcome(answer), sticky)
            found += [Difference(number, flow.text, "reasons", text) for text in unreasoned(answer)]
    return found


class Explained:
    """The explanations of one moment."""

    def __init__(self, product: Product, mode: str = "") -> None:
        objects = list(product.world.objects())
        services = {(o.namespace, o.name): o for o in objects if isinstance(o, Service)}
        claims = Frontends()
        for name, service in services.items():
            claims.put(ObjectKey(Kind.SERVICE, *name), service)
        slices = slices_by_service(o for o in objects if isinstance(o, EndpointSlice))
        view: NodeView = product.node_view()
        self._directory = Listed(claims, services, slices, view)
        networks = ((ip_address(text.partition("/")[0]).version, text) for text in cluster_cidrs(product.view))
        pods: dict[int, str] = {}
        for family, text in networks:
            pods.setdefault(family, text)
        own = addresses(product.view.addresses)
        node = product.node()
        given = [ip_network(text) for text in product.view.nodeport_addresses if "/" in text]
        somewhere = any(each.version == 4 and each.overlaps(_LOOPBACK) for each in given)
        loopback = mode == "iptables" and (somewhere or 4 in node.match_all_families)  # as its dataplane says of itself
        self._site = Site(
            NODE_NAME, own, node, view.zone, tuple(pods.items()), masquerade_all=product.view.masquerade_all,
            manner=replace(manner_of(mode), loopback=loopback),
        )  # fmt: skip

    def answer(self, flow: Flow) -> Answer:
        source, to = ip_address(flow.source).packed, ip_address(flow.to).packed
        return explain(Question(source, to, flow.port, PROTOCOLS[flow.protocol]), self._site, self._directory)


def outcome(answer: Answer) -> Outcome:
    """The answer in the corpus' words."""
    if answer.fate is not Fate.REACHES:
        return Outcome(_KINDS[answer.fate])
    ends = {(join(str(ip_address(c.target.address)), c.target.port), c.masqueraded) for c in answer.choices}
    return Outcome(REACH, frozenset(ends))


def unreasoned(answer: Answer) -> list[str]:
    """What an answer lacks: each decision has its why, and probabilities add up."""
    lacking = [f"{each.what} has no why" for each in answer.decisions if not (each.found and each.why)]
    if answer.fate is Fate.REACHES and abs(sum(choice.probability for choice in answer.choices) - 1) > 1e-9:
        lacking.append("the probabilities are not 1 together")
    if answer.fate is Fate.REACHES and any(choice.endpoint is None for choice in answer.choices):
        lacking.append("an endpoint without facts")
    return lacking
