"""The flags that say where the replicas are, and how they are reached. Called by `controlplane.settings`.

`--replicas` says it for both: agents are spread over the replicas, and any of them answers operators for all. `--peers`
is the name that the second alone had.
"""

from __future__ import annotations

import argparse
from argparse import Namespace
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import ip_address

from msgspec import Struct

from controlplane.identity.flags import Security
from controlplane.identity.peer import Way
from controlplane.peers import Dial, Plain
from controlplane.peers_dial import Secure
from controlplane.replica_places import Alone, Finder, Named, OfService, Remembered
from deltaplane import flags, tls
from deltaplane.names import is_label

SERVICE = "service:"


class Where(Struct, frozen=True):
    """`places`: HOST:PORT. `service`: namespace and name of a headless Service instead; empty: none.

    `me`: HOST:PORT at which agents reach this one; empty: agents are never sent to another replica.
    """

    places: tuple[str, ...] = ()
    service: tuple[str, str] = ("", "")
    me: str = ""
    ca_file: str = ""
    server_name: str = ""
    token_file: str = ""

    @property
    def alone(self) -> bool:
        """Nobody is asked."""
        return not self.places and not self.service[1]


def add(parser: flags.Parser) -> None:
    """Adds them."""
    add = parser.add_argument_group("replicas: streams are spread over them, and each answers for all").add_argument
    add(
        "--replicas", type=_where, default=Where(), metavar="HOST:PORT,...",
        help="all replicas as agents reach them, this one may be among them: addresses, names that have the addresses "
        "of several, or service:NAMESPACE/NAME of their headless Service",
    )  # fmt: skip
    add("--advertise", type=flags.address, metavar="HOST:PORT", help="this replica among --replicas; else --listen")
    add(
        "--peers", type=_where, default=Where(), metavar="HOST:PORT,...",
        help="the earlier name of --replicas, without the spreading of streams",
    )  # fmt: skip
    add("--peer-ca-file", metavar="FILE", default="", help="CAs of the replicas' certificates")
    add("--peer-server-name", metavar="NAME", default="", help="the name in their certificates; else the address")
    add("--peer-token-file", metavar="FILE", default="", help="this replica's token for --token-audience")


def _where(text: str) -> Where:
    if not text.startswith(SERVICE):
        return Where(places=tuple(flags.address(part.strip()) for part in text.split(",")))
    namespace, slash, name = text.removeprefix(SERVICE).partition("/")
    if not (slash and is_label(namespace) and is_label(name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not service:NAMESPACE/NAME")
    return Where(service=(namespace, name))


def read(given: Namespace, parser: flags.Parser, security: Security) -> Where:
    """What they say. Ends by `flags.UsageError` where the replicas could not be found or told from others."""
    said: Where = given.replicas if given.peers.alone else given.peers
    flag = "--replicas" if given.peers.alone else "--peers"
    if not (given.replicas.alone or given.peers.alone):
        parser.error("--peers is the earlier name of --replicas: give --replicas alone")
    if given.advertise and given.replicas.alone:
        parser.error("--advertise goes with --replicas")
    if said.service[1] and given.source == "manifests":
        parser.error(f"{flag}=service:NAMESPACE/NAME asks the API server, which --source=manifests has not")
    if not said.alone and security.way is Way.TLS and not given.peer_ca_file:
        parser.error(f"--peer-ca-file=FILE is missing, by which the replicas in {flag} are believed")
    if not said.alone and security.way is Way.SOCKET:
        parser.error(f"{flag} does not go with a unix socket: no other replica can be asked there")
    me = "" if given.replicas.alone else _me(given, parser)
    return Where(said.places, said.service, me, given.peer_ca_file, given.peer_server_name, given.peer_token_file)


def _me(given: Namespace, parser: flags.Parser) -> str:
    """This replica's own place. The parser's error where nothing says which of the replicas it is."""
    own = given.advertise or given.listen
    try:
        unspecified = ip_address(flags.host_port(own)[0]).is_unspecified
    except ValueError:
        unspecified = True
    if unspecified:
        parser.error(f"--replicas needs --advertise=ADDRESS:PORT, where this one is reached: {own} does not say")
    return str(own)


def finder(where: Where, ask: Callable[[str, str], Awaitable[Sequence[tuple[str, int]]]] | None) -> Finder:
    """Finds them. `ask`: (host, port) of a Service's endpoints, where there is an API server."""
    if where.service[1] and ask is not None:
        namespace, name = where.service
        return Remembered(OfService(lambda: ask(namespace, name)))
    return Remembered(Named(where.places)) if where.places else Alone()


def dial(where: Where, security: Security) -> Dial:
    """Reaches them as this replica itself is reached; it shows its own certificate where clients must have one."""
    if security.way is not Way.TLS:
        return Plain()
    own = security.files
    certificate, key = (own.certificate, own.key) if own.authorities else ("", "")
    return Secure(tls.Files(certificate, key, where.ca_file, "peer-ca-file"), where.server_name, where.token_file)
