"""How people name objects and connections: `svc/web`, `svc/shop/web`, `10.96.0.10:80/UDP`. Pure; raises `Failed`."""

from __future__ import annotations

import ipaddress
import re

from deltaplane.names import is_subdomain
from deltaplane.v1 import objects_pb2, views_pb2
from operatorcli.exits import Exit, Failed

SERVICE, SLICE, NODE = objects_pb2.KIND_SERVICE, objects_pb2.KIND_ENDPOINT_SLICE, objects_pb2.KIND_NODE
KINDS = {
    **dict.fromkeys(("svc", "service", "services"), SERVICE),
    **dict.fromkeys(("endpointslice", "endpointslices", "eps"), SLICE),
    **dict.fromkeys(("node", "nodes", "no"), NODE),
}
PROTOCOLS = ("TCP", "UDP", "SCTP")
_CONNECTION = re.compile(r"(\[[^\]]+\]|[^:/]+):(\d+)(?:/(\w+))?")


def key(text: str, namespace: str, what: str = "svc/NAME") -> objects_pb2.ObjectKey:
    """Of `svc/NAME`, `svc/NAMESPACE/NAME`, `node/NAME`, `endpointslice/NAME`."""
    kind, *rest = text.split("/")
    if kind.lower() not in KINDS or not 1 <= len(rest) <= 2 or not all(rest):
        advice = "Write svc/NAME (with --namespace), svc/NAMESPACE/NAME, node/NAME or endpointslice/NAME."
        raise Failed(Exit.USAGE, f"{text} is not {what}", advice)
    number = KINDS[kind.lower()]
    named(rest[-1])
    if number == NODE:
        return objects_pb2.ObjectKey(kind=number, name=rest[-1])
    return objects_pb2.ObjectKey(kind=number, namespace=rest[0] if len(rest) == 2 else namespace, name=rest[-1])


def named(name: str) -> str:
    """A name as the API has it."""
    if not is_subdomain(name):
        raise Failed(Exit.USAGE, f"{name!r} is no name of an object", "Names have small letters, digits, - and . only.")
    return name


def address(text: str, what: str) -> str:
    """An address without brackets."""
    try:
        return str(ipaddress.ip_address(text.strip("[]")))
    except ValueError:
        raise Failed(
            Exit.USAGE, f"{what} {text!r} is no IP address", "Names are not looked up: give the address."
        ) from None


def connection(source: str, target: str) -> views_pb2.Connection:
    """From an address to ADDRESS:PORT[/PROTOCOL]; TCP where none is given."""
    found = _CONNECTION.fullmatch(target)
    port = int(found[2]) if found else 0
    protocol = (found[3] or "TCP").upper() if found else ""
    if found is None or not 0 < port < 65536 or protocol not in PROTOCOLS:
        advice = "Such as 10.96.0.10:53/UDP or [fd00::1]:443; protocols are TCP, UDP and SCTP."
        raise Failed(Exit.USAGE, f"{target!r} is not ADDRESS:PORT[/PROTOCOL]", advice)
    to = address(found[1], "the address")
    return views_pb2.Connection(source=address(source, "FROM"), address=to, port=port, protocol=protocol)


def shown(connection: views_pb2.Connection) -> str:
    """`10.96.0.10:80/TCP`."""
    host = f"[{connection.address}]" if ":" in connection.address else connection.address
    return f"{host}:{connection.port}/{connection.protocol or 'TCP'}"
