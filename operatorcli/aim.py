"""A connection whose target may be a Service: `svc/web`, `svc/shop/web:http`, `svc/web:53/UDP`. Raises `Failed`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from deltaplane.v1 import agent_pb2, objects_pb2, views_pb2
from deltaplane.v1 import inspection_pb2 as pb
from operatorcli import names
from operatorcli.ask import Replica
from operatorcli.exits import Failed
from operatorcli.flags import Asked, usage

_SERVICE = re.compile(r"(?:svc|services?)/([^:]+)(?::([A-Za-z0-9-]+))?", re.IGNORECASE)


class Port(Struct, frozen=True):
    """Of a Service, at one of its cluster IPs."""

    address: str
    name: str
    number: int
    protocol: str

    def __str__(self) -> str:
        return f"{self.number}/{self.protocol}{f' ({self.name})' if self.name else ''}"


def connection(asked: Asked, replica: Replica, source: str, target: str, namespace: str) -> views_pb2.Connection:
    """From an address to ADDRESS:PORT, or to the cluster IP of the Service that is named."""
    text, protocol = _apart(target)
    found = _SERVICE.fullmatch(text)
    if found is None:
        return names.connection(source, target)
    key = names.key(f"svc/{found[1]}", asked.namespace(namespace) if "/" not in found[1] else "")
    client = names.address(source, "FROM")
    chosen = choose(_ports(asked, replica, key), client, found[2] or "", protocol, target)
    return views_pb2.Connection(source=client, address=chosen.address, port=chosen.number, protocol=chosen.protocol)


def _apart(target: str) -> tuple[str, str]:
    """The protocol at its end, which a Service's name may look like, counts after a port only."""
    head, _, last = target.rpartition("/")
    if ":" in head and last.upper() in names.PROTOCOLS:
        return head, last.upper()
    return target, ""


def choose(ports: Sequence[Port], client: str, wanted: str, protocol: str, what: str) -> Port:
    """The port that is meant, at the cluster IP of the client's family. Pure."""
    if not ports:
        raise usage(f"{what} has no cluster IP", "Give the address of one of its endpoints: deltaplane get endpoints")
    family = [each for each in ports if (":" in each.address) == (":" in client)]
    if not family:
        addresses = ", ".join(dict.fromkeys(each.address for each in ports))
        raise usage(f"{what} has no cluster IP of the family of {client}", f"It has {addresses}.")
    found = [
        each for each in family
        if wanted in {"", each.name, str(each.number)} and protocol in {"", each.protocol}
    ]  # fmt: skip
    if len(found) == 1:
        return found[0]
    listed = ", ".join(map(str, found or family))
    text = f"{what}: which port is meant" if found else f"{what}: there is no such port"
    raise usage(text, f"It has {listed}; write svc/NAME:PORT or svc/NAME:PORT/PROTOCOL.")


def _ports(asked: Asked, replica: Replica, key: objects_pb2.ObjectKey) -> list[Port]:
    """By a replica, or by an agent whose socket is asked."""
    try:
        view = replica.ask("GetObject", pb.GetObjectRequest(key=key), pb.GetObjectResponse).object.service
    except Failed as failure:
        if not asked.agent_answers(failure):
            raise
        request = agent_pb2.GetForwardingRequest(namespace=key.namespace, name=key.name)
        found = replica.ask("GetForwarding", request, agent_pb2.GetForwardingResponse)
        return [_port(each) for each in found.desired.frontends if each.kind == "ClusterIP"]
    return [Port(ip, each.name, each.port, each.protocol) for ip in view.cluster_ips for each in view.ports]


def _port(of: views_pb2.FrontendView) -> Port:
    place, _, protocol = of.frontend.rpartition("/")
    address, _, number = place.rpartition(":")
    return Port(address.strip("[]"), of.port_name, int(number), protocol)
