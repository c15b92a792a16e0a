"""The decisions of `explain` in words. Pure."""

from __future__ import annotations

from collections import Counter

from deltaplane.categorise import Candidates
from deltaplane.explain.answer import Decision, Question
from deltaplane.explain.manner import Manner
from deltaplane.explain.site import Client, Site
from deltaplane.forwarding import Entry, FrontendKind, Target, Verdict
from deltaplane.model import Conditions, ObjectKey
from deltaplane.views import conditions_text, frontend_text, place

_KINDS = {
    FrontendKind.CLUSTER_IP: "a ClusterIP",
    FrontendKind.NODE_PORT: "a node port",
    FrontendKind.EXTERNAL_IP: "an external IP",
    FrontendKind.LOAD_BALANCER: "an address of a load balancer",
}


def frontend(key: ObjectKey, entry: Entry, question: Question) -> Decision:
    """Whose it is."""
    name = f" (port {entry.port_name})" if entry.port_name else ""
    at = place(question.address, question.port)
    why = f"{at} is {_KINDS[entry.frontend.kind]} of {key}{name}"
    return Decision("frontend", frontend_text(entry.frontend), why)


def not_served(question: Question, site: Site) -> Decision:
    """No Service has it."""
    if question.address in site.own and not site.is_node_port_address(question.address):
        why = "it is an address of this node at which node ports do not answer: nothing is changed"
    elif question.address in site.own:
        why = "it is an address of this node, and no Service has this node port: nothing is changed"
    else:
        why = "no Service has this address: the packet goes on as it is"
    return Decision("address", "no Service's", why)


def passes_by(manner: Manner) -> Decision:
    """Rules that would refuse do not see it."""
    why = f"in {manner.mode} mode the node's own connections to external addresses without endpoints are left alone"
    return Decision("endpoints", "none", why)


def anywhere(manner: Manner) -> Decision:
    """A refusal at an address at which node ports do not answer."""
    why = f"in {manner.mode} mode a node port without endpoints refuses at every address of the node"
    return Decision("endpoints", "none", why)


def source_ranges(entry: Entry, *, passes: bool) -> Decision:
    """Whether the client may use the address at all."""
    why = (
        f"loadBalancerSourceRanges {'allow' if passes else 'do not allow'} the source: {', '.join(entry.source_ranges)}"
    )
    return Decision("source-ranges", "allowed" if passes else "dropped", why)


def client(client: Client, site: Site) -> Decision:
    """Who asks."""
    told = ", ".join(text for _, text in site.pods) or "nothing tells pods apart"
    return Decision("client", client.value, f"local traffic is told by: {told}")


def policy(entry: Entry, site: Site) -> Decision:
    """One list for every client."""
    if entry.local_policy:
        return Decision("traffic-policy", "Local", f"internalTrafficPolicy Local: endpoints on {site.name} only")
    return Decision("traffic-policy", "Cluster", "endpoints of the whole cluster")


def policy_local(site: Site) -> Decision:
    """The client gets what is on the node."""
    return Decision("traffic-policy", "Local", f"externalTrafficPolicy Local: endpoints on {site.name} only")


def policy_for_insiders(client: Client) -> Decision:
    """The policy is not for this client."""
    why = f"externalTrafficPolicy Local does not bind {client.value}: endpoints of the whole cluster"
    return Decision("traffic-policy", "Cluster", why)


def endpoints(targets: tuple[Target, ...], verdict: Verdict, known: Candidates, site: Site) -> Decision:
    """How many there are to choose from, and why not the others."""
    found = f"{len(targets)} of {len(known)}"
    states = Counter(conditions_text(endpoint.conditions) for endpoint in known.values())
    census = "; ".join(f"{number} {state}" for state, number in sorted(states.items())) or "none at all"
    if targets:
        return Decision("endpoints", found, f"{_chosen(targets, known, site)}; there are: {census}")
    if verdict is Verdict.REJECT:
        return Decision("endpoints", found, f"none can take connections anywhere: refused at once; there are: {census}")
    return Decision(
        "endpoints", found, f"none on {site.name}, others elsewhere: the policy Local drops; there are: {census}"
    )


def _chosen(targets: tuple[Target, ...], known: Candidates, site: Site) -> str:
    facts = [known[target] for target in targets if target in known]
    ready = sum(bool(endpoint.conditions & Conditions.READY) for endpoint in known.values())
    if facts and not any(endpoint.conditions & Conditions.READY for endpoint in facts):
        return "no ready endpoint is left, so those that still serve while they terminate are used"
    if len(targets) < ready and all(endpoint.node == site.name for endpoint in facts):
        return f"ready endpoints on {site.name}"
    if len(targets) < ready and site.zone and all(site.zone in endpoint.zone_hints for endpoint in facts):
        return f"ready endpoints hinted for zone {site.zone}"
    return "ready endpoints, each as likely as the others"


def not_routed(lost: tuple[Target, ...], targets: tuple[Target, ...]) -> Decision:
    """A source that does not leave its machine."""
    what = "all" if len(lost) == len(targets) else f"{len(lost)} of {len(targets)}"
    why = "the source is loopback, which the kernel does not route to endpoints elsewhere: use an address of the node"
    return Decision("route", f"{what} out of reach", why)


def affinity(entry: Entry) -> Decision:
    """A client stays with its endpoint."""
    seconds = entry.affinity_seconds
    why = f"a client that was here within {seconds} s gets the endpoint of before, where that is still among them"
    return Decision("affinity", f"ClientIP, {seconds} s", why)


def masquerade(*, masqueraded: bool, why: str, itself: bool, lost: bool = False, here: bool = False) -> Decision:
    """Whose address the endpoint sees.

    `itself`: the client is among them; `lost`: and is not masqueraded to itself; `here`: some are the node itself.
    """
    found = "yes" if masqueraded else "only to itself" if itself else "no"
    if itself and not masqueraded:
        why += "; where the pod reaches itself, its own address would not bring the answer back"
    if here:
        why += "; what stays on the node itself is not masqueraded"
    if lost:
        why += "; the client is one of the endpoints, on another node: where it reaches itself by this one, it is lost"
    return Decision("masquerade", found, why)
