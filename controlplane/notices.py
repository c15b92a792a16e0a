"""What an operator should hear of a node's agent besides the log: an Event where the source is a cluster. Pure."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from deltaplane.model import IpMode, Service, family_of
from deltaplane.v1 import delta_pb2 as pb

AUTO = "auto"


class Notice(Struct, frozen=True):
    """Something that happened on a node, or that a Service means. Equal ones are told once."""

    node: str  # empty: it is about `service`
    instance: str  # of the agent, so that the same news of its next start is news again
    reason: str  # in one word, as Events have it
    text: str  # one line
    service: tuple[str, str] = ("", "")  # namespace, name

    @property
    def about(self) -> str:
        """The object it is about, for a line of text."""
        return f"Node {self.node}" if self.node else f"Service {'/'.join(self.service)}"


class Notices(Protocol):
    """Where notices go."""

    def tell(self, notice: Notice) -> None:
        """Takes a notice and returns at once; that it cannot be told is nobody's failure."""


def braked(hello: pb.Hello, brake: pb.Brake) -> Notice:
    """An agent holds a change that would take most Services away."""
    text = (
        f"the safety brake holds a change that removes {brake.services_removed} of {brake.services} Services "
        f"unannounced; the node serves what it had. If it is right: InspectionService/ReleaseBrake"
    )
    return Notice(hello.node_name, hello.agent_instance, "SafetyBrake", text)


def half_open(service: Service) -> Notice | None:
    """Source ranges of one family leave the other family's addresses open to everybody, as kube-proxy does (G3)."""
    vips = {int(family_of(i.ip)) for i in service.load_balancer_ingress if i.ip_mode != IpMode.PROXY}
    ranged = {6 if ":" in cidr else 4 for cidr in service.load_balancer_source_ranges}
    open_ = sorted(vips - ranged)
    if not ranged or not open_:
        return None
    named = " and ".join(f"IPv{family}" for family in open_)
    text = (
        f"spec.loadBalancerSourceRanges has no {named} range, so its {named} addresses are open to everybody: "
        f"add a range of that family"
    )
    return Notice("", "", "SourceRangesOfOneFamily", text, (service.namespace, service.name))


def fallback(hello: pb.Hello) -> Notice | None:
    """An agent says in its Hello that the mode which was asked for cannot work on its node; None: no such thing."""
    asked = hello.proxy_mode_asked
    if asked in ("", AUTO, hello.proxy_mode):
        return None
    text = f"proxy mode {asked} cannot work here, mode {hello.proxy_mode} is in use: {hello.proxy_mode_reason}"
    return Notice(hello.node_name, hello.agent_instance, "ProxyModeFallback", text)
