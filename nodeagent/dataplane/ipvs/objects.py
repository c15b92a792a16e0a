"""What is wanted of IPVS and what it holds, as values."""

from __future__ import annotations

from ipaddress import ip_address
from typing import NamedTuple

from msgspec import Struct

from deltaplane.forwarding import Target
from deltaplane.model import protocol_name
from nodeagent.dataplane.ipvs.names import Element

FALLBACK = 0x8  # IP_VS_SVC_F_SCHED1: of sh and mh, to another endpoint where the hash leads to one that leaves
BY_MARK = 0  # the protocol of a virtual server that is chosen by a packet mark


class VirtualKey(NamedTuple):
    """What makes a virtual server one: for one by mark the address is empty and the port is the mark."""

    family: int
    protocol: int
    address: bytes
    port: int


class Manner(NamedTuple):
    """How a virtual server schedules."""

    scheduler: str
    flags: int
    timeout: int  # seconds of affinity; 0 without


class Virtual(Struct, frozen=True, gc=False):
    """What one address and port of this node means.

    `targets` None: there is no virtual server, packets are dropped, or not for this node. `outside`, where it is not
    None, is the list for sources outside the cluster, scheduled as `outside_manner`; an empty list refuses. `elements`
    are needed besides.
    """

    manner: Manner
    targets: tuple[Target, ...] | None
    outside: tuple[Target, ...] | None
    elements: tuple[Element, ...]

    @property
    def outside_manner(self) -> Manner:
        """Without affinity as all others. With it, by a consistent hash of the source's address.

        A virtual server by mark that keeps clients sends them to the port they came for, not to the endpoint's.
        """
        return Manner("mh", FALLBACK, 0) if self.manner.timeout else self.manner


class Server(NamedTuple):
    """One virtual server to be: how, and to where."""

    manner: Manner
    targets: tuple[Target, ...]


class Held:
    """A virtual server in the kernel. `reals` has each real server's weight; 0: it drains; `idle`: it has drained.

    `active`: whether it had connections that are not on their way to their end when it was read.
    """

    __slots__ = ("active", "idle", "manner", "reals")

    def __init__(self, manner: Manner, reals: dict[Target, int] | None = None) -> None:
        self.manner = manner
        self.reals: dict[Target, int] = reals if reals is not None else {}
        self.idle: tuple[Target, ...] = ()
        self.active = False


class Real(NamedTuple):
    """A real server as the kernel lists it."""

    target: Target
    weight: int
    connections: int  # active and inactive ones
    active: int = 0


def mark_key(family: int, mark: int) -> VirtualKey:
    return VirtualKey(family, BY_MARK, b"", mark)


def served_at(element: Element) -> VirtualKey:
    """The address and port of an element of a set of hash:ip,port."""
    key = element.key
    return VirtualKey(element.family, key[-3], key[:-3], int.from_bytes(key[-2:], "big"))


def described(key: VirtualKey) -> str:
    """For people, such as "172.30.0.1 TCP/80"."""
    if key.protocol == BY_MARK:
        return f"mark {key.port:#x}"
    return f"{ip_address(key.address)} {protocol_name(key.protocol)}/{key.port}"
