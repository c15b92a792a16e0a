"""The flags that say how this replica is reached and who may speak. Called by `controlplane.settings`."""

from __future__ import annotations

import argparse
from argparse import Namespace
from ipaddress import ip_address

from msgspec import Struct

from controlplane.certificates.values import Times
from controlplane.identity.peer import Way
from deltaplane import flags, tls
from deltaplane.names import is_label, is_subdomain

AUDIENCE = "deltaplane.dev/control-plane"
ACCOUNT = "deltaplane-system/deltaplane-agent"
PEER_ACCOUNT = "deltaplane-system/deltaplane-controlplane"
TRUST_DOMAIN = "deltaplane.dev"
NAMESPACE = "deltaplane-system"
EVERYWHERE = ("", "0.0.0.0", "::")  # noqa: S104 - hosts of --listen that are no host
UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
SHORTEST, LONGEST = 10.0, 87600 * 3600.0  # seconds


class Own(Struct, frozen=True):
    """Certificates of the control plane's own. `names`: DNS names and addresses of this replica's."""

    namespace: str
    names: tuple[str, ...]
    times: Times


class Security(Struct, frozen=True):
    """`files`: with Way.TLS, and of them the clients' CAs alone where there are certificates of its `own`."""

    way: Way = Way.INSECURE
    files: tls.Files = tls.Files()
    audience: str = AUDIENCE
    agent_account: str = ACCOUNT
    trust_domain: str = TRUST_DOMAIN
    own: Own | None = None
    peer_account: str = PEER_ACCOUNT


def add(parser: flags.Parser) -> None:
    """Adds them."""
    add = parser.add_argument_group("TLS and identity").add_argument
    add("--tls-cert-file", metavar="FILE", default="", help="this replica's certificate and its chain, PEM")
    add("--tls-private-key-file", metavar="FILE", default="", help="the certificate's private key, PEM")
    add(
        "--certificates", choices=["files", "own"], default="files",
        help="this replica's certificate: from files, or of the control plane's own CA, made and rotated by it",
    )  # fmt: skip
    add(
        "--certificate-names", type=_names, metavar="NAME,...", default=(),
        help="own: DNS names and addresses of this replica's certificate, beside the host of --listen",
    )  # fmt: skip
    add(
        "--certificate-namespace", type=_namespace, metavar="NAMESPACE", default=NAMESPACE,
        help="own: where the Secret, the ConfigMap and the Lease of the CA are",
    )  # fmt: skip
    add(
        "--certificate-lifetime", type=_lifetime, metavar="DURATION", default="168h",
        help="own: for how long a certificate counts, as in 168h; renewed after two thirds",
    )  # fmt: skip
    add(
        "--authority-lifetime", type=_lifetime, metavar="DURATION", default="8760h",
        help="own: for how long a CA counts, as in 8760h; the next is made after two thirds",
    )  # fmt: skip
    add("--client-ca-file", metavar="FILE", default="", help="CAs of clients' certificates: every client must have one")
    add("--token-audience", metavar="NAME", default=AUDIENCE, help="whom tokens must be meant for")
    add(
        "--agent-account", type=_account, metavar="NAMESPACE/NAME", default=ACCOUNT,
        help="the ServiceAccount whose tokens speak for nodes",
    )  # fmt: skip
    add(
        "--peer-account", type=_account, metavar="NAMESPACE/NAME", default=PEER_ACCOUNT,
        help="the ServiceAccount whose tokens are replicas'",
    )  # fmt: skip
    add(
        "--trust-domain", metavar="DOMAIN", default=TRUST_DOMAIN,
        help="certificates for spiffe://DOMAIN/node/NAME speak for nodes",
    )  # fmt: skip
    add("--insecure", action="store_true", help="plain text, and whoever reaches the port is believed")


def security(given: Namespace, parser: flags.Parser) -> Security:
    """What they say. Ends by `flags.UsageError` where nobody could be told who is who."""
    files = tls.Files(given.tls_cert_file, given.tls_private_key_file, given.client_ca_file)
    if flags.is_socket(given.listen) or given.insecure:
        reason = "--insecure" if given.insecure else f"--listen={given.listen}, which is plain text"
        if files.named:
            parser.error(f"--tls-cert-file, --tls-private-key-file and --client-ca-file do not go with {reason}")
        if given.certificates == "own":
            parser.error(f"--certificates=own does not go with {reason}")
        return Security(Way.SOCKET if flags.is_socket(given.listen) else Way.INSECURE)
    if given.certificates == "own":
        return _secured(given, files, _own(given, parser))
    for flag, path in (("tls-cert-file", files.certificate), ("tls-private-key-file", files.key)):
        if not path:
            instead = "--certificates=own, --insecure for plain text on a network you trust, or --listen=unix:///PATH"
            parser.error(f"--{flag}=FILE is missing, for TLS; instead of it: {instead}")
    if given.source == "manifests" and not files.authorities:
        parser.error(
            "--client-ca-file=FILE is missing: with --source=manifests agents prove who they are by certificates"
        )
    return _secured(given, files)


def _secured(given: Namespace, files: tls.Files, own: Own | None = None) -> Security:
    return Security(
        Way.TLS,
        files,
        audience=given.token_audience,
        agent_account=given.agent_account,
        trust_domain=given.trust_domain,
        own=own,
        peer_account=given.peer_account,
    )


def _own(given: Namespace, parser: flags.Parser) -> Own:
    if given.source != "kubernetes":
        parser.error("--certificates=own goes with --source=kubernetes: its CA is in a Secret")
    if given.tls_cert_file or given.tls_private_key_file:
        parser.error("--tls-cert-file and --tls-private-key-file do not go with --certificates=own")
    times = Times(given.authority_lifetime, given.certificate_lifetime)
    if times.leaf * 4 > times.authority:
        parser.error("--authority-lifetime is less than four times --certificate-lifetime")
    host, _ = flags.host_port(given.listen)
    listened = () if host in EVERYWHERE else (host,)
    names = tuple(dict.fromkeys((*listened, *given.certificate_names)))
    if not names:
        parser.error(
            f"--certificate-names=NAME,... is missing: --listen={given.listen} names no host that agents could dial"
        )
    return Own(given.certificate_namespace, names, times)


def _names(text: str) -> tuple[str, ...]:
    found = tuple(part.strip() for part in text.split(","))
    for name in found:
        if not (is_subdomain(name) or _is_address(name)):
            raise argparse.ArgumentTypeError(f"{name!r} is neither a DNS name nor an address")
    return found


def _is_address(text: str) -> bool:
    try:
        return bool(ip_address(text)) and "%" not in text
    except ValueError:
        return False


def _lifetime(text: str) -> float:
    """In seconds."""
    number, unit = text[:-1], text[-1:]
    if not (number.isascii() and number.isdecimal() and unit in UNITS):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, minutes or hours, as in 168h")
    seconds = float(number) * UNITS[unit]
    if not SHORTEST <= seconds <= LONGEST:
        raise argparse.ArgumentTypeError(f"{text!r} is not from 10s to 87600h")
    return seconds


def _namespace(text: str) -> str:
    if not is_label(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not the name of a namespace")
    return text


def _account(text: str) -> str:
    namespace, slash, name = text.partition("/")
    if not (slash and is_label(namespace) and is_subdomain(name)):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAMESPACE/NAME of a ServiceAccount")
    return text
