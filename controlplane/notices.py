"""Notices for operators, beyond the log: Events, if the source is a cluster. Pure."""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from deltaplane.model import IpMode, Service, family_of
from deltaplane.v1 import delta_pb2 as pb

AUTO = "auto"


class Notice(Struct, frozen=True):
    """A notice about a node or a Service. Equal notices are told once."""

    node: str  # empty: it is about `service`
    instance: str  # the agent's, so that the same notice after its next start is told again
    reason: str  # the Event's reason, one word
    text: str  # one line
    service: tuple[str, str] = ("", "")  # namespace, name

    @property
    def about(self) -> str:
        """The object of the notice, for a log line."""
        return f"Node {self.node}" if self.node else f"Service {'/'.join(self.service)}"


class Notices(Protocol):
    """Where notices go."""

    def tell(self, notice: Notice) -> None:
        """Takes a notice. Returns at once and never raises."""


def braked(hello: pb.Hello, brake: pb.Brake) -> Notice:
    """An agent's safety brake holds a change that removes most Services."""
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
    """The agent runs in another proxy mode than configured, and its Hello says why. None: it does not."""
    asked = hello.proxy_mode_asked
    if asked in ("", AUTO, hello.proxy_mode):
        return None
    text = f"proxy mode {asked} cannot work here, mode {hello.proxy_mode} is in use: {hello.proxy_mode_reason}"
    return Notice(hello.node_name, hello.agent_instance, "ProxyModeFallback", text)
