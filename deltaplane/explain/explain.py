"""The way of one connection through a node, decision by decision, in the order in which a kernel takes them.

Reads forwarding entries as their docstrings say (`deltaplane.forwarding`), and a proxy mode's own ways
(`deltaplane.explain.manner`); decides nothing that `resolve` has not decided. Pure.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from deltaplane.categorise import Candidates, candidates
from deltaplane.explain import words
from deltaplane.explain.answer import Answer, Choice, Decision, Fate, Question
from deltaplane.explain.directory import Directory
from deltaplane.explain.site import Client, Site, network
from deltaplane.explain.unserved import fate, found, unserved
from deltaplane.forwarding import Entry, FrontendKind, Hairpin, Masquerade, ServiceForwarding, Target, Verdict

Targets = tuple[Target, ...]


class _Way(NamedTuple):
    question: Question
    site: Site
    client: Client
    forwarding: ServiceForwarding
    entry: Entry

    def answer(self, fate: Fate, decisions: list[Decision], choices: tuple[Choice, ...] = ()) -> Answer:
        return Answer(fate, tuple(decisions), choices, self.forwarding.key, self.entry)


def explain(question: Question, site: Site, directory: Directory) -> Answer:
    """What becomes of the connection at this node."""
    held = found(question, site, directory)
    if held is None:
        return unserved(question, site, directory)
    way = _Way(question, site, site.client(question.source), *held)
    decisions = [words.frontend(way.forwarding.key, way.entry, question)]
    return _shut(way, decisions) or _chosen(way, decisions, directory)


def _shut(way: _Way, decisions: list[Decision]) -> Answer | None:
    """What is decided before endpoints are looked at; None: nothing keeps the client out."""
    question, site, entry = way.question, way.site, way.entry
    refused = entry.verdict is Verdict.REJECT
    if refused and not site.manner.guards_own and _passes_by(way):
        decisions.append(words.passes_by(site.manner))
        return way.answer(Fate.NOT_SERVED, decisions)
    if entry.source_ranges and (site.manner.ranges_first or not refused):
        passes = any(ip_address(question.source) in network(text) for text in entry.source_ranges)
        decisions.append(words.source_ranges(entry, passes=passes))
        if not passes:
            return way.answer(Fate.DROPPED, decisions)
    return None


def _passes_by(way: _Way) -> bool:
    """The node's own connection to an external address that is no address of its own."""
    outside = way.entry.frontend.kind is not FrontendKind.CLUSTER_IP or bool(way.entry.source_ranges)
    return outside and way.question.address not in way.site.own and way.client is Client.NODE


def _chosen(way: _Way, decisions: list[Decision], directory: Directory) -> Answer:
    """Which endpoints the client may use, and who they see."""
    site, entry = way.site, way.entry
    targets, verdict, policy = _list(entry, way.client, site)
    known = _candidates(way.forwarding, entry, directory)
    decisions += [words.client(way.client, site), policy, words.endpoints(targets, verdict, known, site)]
    if not targets:
        return way.answer(fate(verdict, site), decisions)
    lost = _not_routed(way, targets)
    if lost:
        decisions.append(words.not_routed(lost, targets))
        if len(lost) == len(targets):
            return way.answer(Fate.DROPPED, decisions)
    if entry.affinity_seconds:
        decisions.append(words.affinity(entry))
    choices, masquerade = _choices(way, targets, known)
    return way.answer(Fate.REACHES, [*decisions, masquerade], choices)


def _list(entry: Entry, client: Client, site: Site) -> tuple[Targets, Verdict, Decision]:
    """The endpoints that this client may use, what happens without any, and which policy decided it."""
    if entry.local_targets is None:
        return entry.targets, entry.verdict, words.policy(entry, site)
    if client in {Client.NODE, Client.POD}:
        return entry.targets, entry.verdict, words.policy_for_insiders(client)
    return entry.local_targets, entry.external_verdict, words.policy_local(site)


def _candidates(forwarding: ServiceForwarding, entry: Entry, directory: Directory) -> Candidates:
    service = directory.service(forwarding.key)
    ports = [] if service is None else [port for port in service.ports if _is_of(entry, port.name, port.protocol)]
    return candidates(ports[0], entry.frontend.family, directory.slices(forwarding.key)) if ports else {}


def _is_of(entry: Entry, name: str, protocol: int) -> bool:
    return entry.port_name == name and entry.frontend.protocol == protocol


def _not_routed(way: _Way, targets: Targets) -> Targets:
    """Endpoints elsewhere, where the source is loopback: the kernel lets no such packet leave."""
    question, manner = way.question, way.site.manner
    stays = ip_address(question.source).is_loopback and not manner.routes_loopback(question.family)
    return tuple(target for target in targets if target.address not in way.site.own) if stays else ()


def _choices(way: _Way, targets: Targets, known: Candidates) -> tuple[tuple[Choice, ...], Decision]:
    """Each endpoint with who it sees. Masquerading is done to what leaves: what stays on the node keeps its source."""
    masqueraded, why = _masqueraded(way)
    itself, lost = _itself(way, targets)
    stay = {target for target in targets if _stays(way, target)}
    choices = tuple(
        Choice(target, 1 / len(targets), target not in stay and (masqueraded or target in itself), known.get(target))
        for target in targets
    )
    here = bool(stay) and masqueraded
    decision = words.masquerade(
        masqueraded=masqueraded, why=why, itself=bool(itself), lost=lost and not masqueraded, here=here
    )
    return choices, decision


def _stays(way: _Way, target: Target) -> bool:
    """Whether it comes from elsewhere and ends on this very node, so that it is never masqueraded."""
    return target.address in way.site.own and way.client is not Client.NODE and not way.site.manner.relays


def _itself(way: _Way, targets: Targets) -> tuple[set[Target], bool]:
    """The client's own endpoints that are masqueraded to it, and whether there are others of its own."""
    protocol, pins = way.entry.frontend.protocol, way.forwarding.hairpins
    own = {target for target in targets if target.address == way.question.source}
    pinned = {each for each in own if way.site.manner.pins_all or Hairpin(each.address, protocol, each.port) in pins}
    return pinned, bool(own - pinned)


def _masqueraded(way: _Way) -> tuple[bool, str]:
    """Whether endpoints see the node's address, and why."""
    site, client, entry = way.site, way.client, way.entry
    if site.manner.relays:
        return True, "the agent itself connects to the endpoint"
    if entry.masquerade is Masquerade.OFF_CLUSTER:
        return _off_cluster(way)
    if entry.masquerade is Masquerade.ALWAYS:
        return True, "external traffic under the policy Cluster, whose answers have to come back through this node"
    if client is Client.NODE:
        return True, "the node's own connections"
    return False, "under the policy Local endpoints see the client's own address"


def _off_cluster(way: _Way) -> tuple[bool, str]:
    """Towards a ClusterIP."""
    site, question = way.site, way.question
    if site.masquerade_all:
        return True, "the node is told to masquerade everything towards ClusterIPs"
    if not site.detectors(question.family):
        return False, "the node has no way to tell local traffic"
    detected = site.detected(question.source)
    return not detected, f"the source {'is' if detected else 'is not'} in the pods' network"
