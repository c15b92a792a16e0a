"""What becomes of a connection that no frontend takes, and which frontend takes one. Pure; called by `explain`."""

from __future__ import annotations

from ipaddress import ip_address

from deltaplane.explain import words
from deltaplane.explain.answer import Answer, Decision, Fate, Question
from deltaplane.explain.directory import Directory
from deltaplane.explain.manner import Refused
from deltaplane.explain.site import Site
from deltaplane.forwarding import Entry, ServiceForwarding, Verdict
from deltaplane.model import ObjectKey

Held = tuple[ServiceForwarding, Entry]
_FATES = {Verdict.REJECT: Fate.REFUSED, Verdict.DROP: Fate.DROPPED}


def fate(verdict: Verdict, site: Site) -> Fate:
    """What a verdict without an endpoint comes to on this node."""
    return _FATES[verdict] if site.manner.rejects else Fate.DROPPED


def found(question: Question, site: Site, directory: Directory) -> Held | None:
    """The Service and entry that the connection is addressed to: by its address, else as a node port."""
    if question.protocol not in site.manner.protocols:
        return None
    held = _entry(question, question.address, directory)
    if held is None and site.is_node_port_address(question.address):
        held = _entry(question, b"", directory)
    return held


def _entry(question: Question, address: bytes, directory: Directory) -> Held | None:
    """Of the port in question at an address; empty: the node port."""
    key: ObjectKey | None = directory.holder(question.family, address, question.protocol, question.port)
    if key is None:
        return None
    forwarding = directory.forwarding(key)
    wanted = question.family, address, question.protocol, question.port
    return next(((forwarding, entry) for entry in forwarding.entries if entry.frontend[1:] == wanted), None)


def unserved(question: Question, site: Site, directory: Directory) -> Answer:
    """Where no frontend takes it."""
    refusing = _refusing(question, site, directory) if site.manner.refuses_anywhere else None
    if refusing is not None:
        return refusing
    near = tuple(directory.near(question.address, question.protocol, question.port))
    if _refuses_other_ports(question, site, directory):
        decision = Decision("address", "a Service's without this port", "its Service has other ports: refused at once")
        return Answer(fate(Verdict.REJECT, site), (decision,), near=near)
    if site.manner.drops_unallocated and site.is_service_address(question.address):
        why = "it is in a range of Services, and no Service has it: dropped, so that it does not leave the cluster"
        return Answer(Fate.DROPPED, (Decision("address", "no Service's", why),), near=near)
    return Answer(Fate.NOT_SERVED, (words.not_served(question, site),), near=near)


def _refusing(question: Question, site: Site, directory: Directory) -> Answer | None:
    """By a node port that refuses at addresses of the node where it would not answer; None: there is none."""
    if question.address not in site.own and not ip_address(question.address).is_loopback:
        return None
    held = _entry(question, b"", directory)
    refusal = Verdict.FORWARD if held is None else held[1].verdict or held[1].external_verdict
    if held is None or not refusal:
        return None
    decisions = words.frontend(held[0].key, held[1], question), words.anywhere(site.manner)
    return Answer(fate(refusal, site), decisions, (), held[0].key, held[1])


def _refuses_other_ports(question: Question, site: Site, directory: Directory) -> bool:
    if site.manner.refused is Refused.EVERY_ADDRESS:
        return question.address not in site.own and directory.is_served(question.address)
    return site.manner.refused is Refused.CLUSTER_IPS and directory.is_cluster_ip(question.address)
