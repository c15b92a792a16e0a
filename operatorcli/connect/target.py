"""From flags to a way to a replica. Pure; wrong combinations end here, before anything is dialled."""

from __future__ import annotations

import re

from msgspec import Struct

from operatorcli.exits import Exit, Failed

AUDIENCE = "deltaplane.dev/control-plane"
SYSTEM = "deltaplane-system"
ACCOUNT = f"{SYSTEM}/deltaplane-inspector"
PORT = 50051
SCHEME = "unix://"
LONGEST = 107  # bytes of a unix socket's path (sun_path of unix(7), less its end)
_ADDRESS = re.compile(r"(?:\[[0-9a-fA-F:.%a-z]+\]|[^:\[\]/\s]+):(\d{1,5})")


class Flags(Struct, frozen=True):
    """As given; empty: not given. Names are those of the flags."""

    server: str = ""
    ca_file: str = ""
    server_name: str = ""
    token_file: str = ""
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    insecure: bool = False
    kubeconfig: str = ""
    context: str = ""
    account: str = ACCOUNT
    audience: str = AUDIENCE
    system_namespace: str = SYSTEM
    replica: str = ""
    request_timeout: float = 10.0


class Plain(Struct, frozen=True):
    """`addresses`: as gRPC takes them, in the order in which they are tried. Plain text, and nothing is proved."""

    addresses: tuple[str, ...]


class Secure(Struct, frozen=True):
    """TLS to the first address that answers. `own_token`: of the kubeconfig's user, for want of another."""

    addresses: tuple[str, ...]
    own_token: bool


class Forwarded(Struct, frozen=True):
    """Through the API server to a replica's Pod. `secure`: TLS with the replica inside of it."""

    secure: bool
    own_token: bool


Way = Plain | Secure | Forwarded


def way(flags: Flags) -> Way:
    """How the replica is reached. Raises `Failed` with USAGE."""
    if bool(flags.tls_cert_file) != bool(flags.tls_private_key_file):
        raise Failed(Exit.USAGE, "--tls-cert-file and --tls-private-key-file go together", "Name both, or neither.")
    account(flags.account)
    own_token = not flags.token_file and not flags.tls_cert_file
    if not flags.server:
        return Forwarded(secure=not flags.insecure, own_token=own_token)
    if flags.server.startswith(SCHEME):
        return Plain((_socket(flags.server),))
    addresses = tuple(flags.server.split(","))
    for each in addresses:
        _checked(each)
    if flags.insecure:
        return Plain(addresses)
    if not flags.ca_file:
        raise Failed(
            Exit.USAGE, f"--server={flags.server} without --ca-file: whose certificate is to be believed is not known",
            "Name the CA of the replicas by --ca-file=FILE; --insecure if the control plane runs with --insecure.",
        )  # fmt: skip
    return Secure(addresses, own_token)


def _socket(server: str) -> str:
    path = server.removeprefix(SCHEME)
    if not path.startswith("/"):
        raise Failed(Exit.USAGE, f"--server={server} is no absolute path", "Write unix:///PATH, with three slashes.")
    if len(path.encode()) > LONGEST:
        raise Failed(
            Exit.USAGE, f"--server={server} is longer than {LONGEST} bytes, as a socket's path may be",
            "Name it by a shorter path, such as a link's.",
        )  # fmt: skip
    return f"unix:{path}"


def _checked(server: str) -> None:
    found = _ADDRESS.fullmatch(server)
    if not found or not 0 < int(found[1]) < 65536:
        raise Failed(
            Exit.USAGE, f"--server={server} is neither HOST:PORT nor unix:///PATH",
            f"A replica listens on port {PORT} unless it is told otherwise; IPv6 addresses stand in brackets.",
        )  # fmt: skip


def account(text: str) -> tuple[str, str]:
    """Namespace and name of a ServiceAccount. Raises `Failed` with USAGE."""
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name) or "/" in name:
        raise Failed(Exit.USAGE, f"--account={text} is not NAMESPACE/NAME", f"The one of the manifests is {ACCOUNT}.")
    return namespace, name


def host(server: str) -> str:
    """HOST of HOST:PORT, without brackets."""
    return server.rpartition(":")[0].strip("[]")
