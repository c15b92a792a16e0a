"""The flags that say how this agent knows its control plane, and what it shows it. Called by `flags` and `settings`."""

from __future__ import annotations

from argparse import _ArgumentGroup  # the group has no public name
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from deltaplane import tls
from deltaplane.flags import is_socket

AUTHORITIES = "server-ca-file"
FILES = {
    "token-file": "a ServiceAccount token for this agent, as the kubelet projects and rotates it",
    AUTHORITIES: "the CAs that replicas' certificates are signed by, PEM",
    "tls-cert-file": "this agent's own certificate and its chain, PEM",
    "tls-private-key-file": "the certificate's private key, PEM",
}
NAME = "server-name"
OWN = (*FILES, NAME)
"""The flags without dashes."""


class Security(Struct, frozen=True):
    """`insecure`: plain text. `server_name`: which name a replica's certificate has, where it is not as in --server."""

    insecure: bool = True
    files: tls.Files = tls.Files(authorities_flag=AUTHORITIES)
    server_name: str = ""
    token_file: str = ""


def add(group: _ArgumentGroup) -> None:
    """Adds them, but for --insecure."""
    for flag, text in FILES.items():
        group.add_argument(f"--{flag}", dest=flag, metavar="FILE", help=text)
    text = "the name in replicas' certificates, where it is another than --server says"
    group.add_argument(f"--{NAME}", dest=NAME, metavar="NAME", help=text)


def security(said: Mapping[str, Any]) -> Security:
    """What they say."""
    certificate, key = said.get("tls-cert-file", ""), said.get("tls-private-key-file", "")
    files = tls.Files(certificate, key, said.get(AUTHORITIES, ""), AUTHORITIES)
    return Security(bool(said.get("insecure")), files, said.get(NAME, ""), said.get("token-file", ""))


def problem(said: Mapping[str, Any]) -> str:
    """Why an agent that is told this cannot run; empty: it can."""
    if said.get("insecure"):
        against = [f"--{flag}" for flag in OWN if said.get(flag)]
        return f"{' and '.join(against)}: not with --insecure, which is plain text" if against else ""
    if bool(said.get("tls-cert-file")) != bool(said.get("tls-private-key-file")):
        return "--tls-cert-file and --tls-private-key-file go together"
    return "" if all(map(is_socket, said.get("server", ()))) else _lacking(said)


def _lacking(said: Mapping[str, Any]) -> str:
    if not said.get(AUTHORITIES):
        instead = "instead of it: --insecure for plain text on a network you trust, or --server=unix:///PATH"
        return f"--{AUTHORITIES}=FILE is missing, for TLS; {instead}"
    if not said.get("token-file") and not said.get("tls-cert-file"):
        return "--token-file=FILE is missing, which proves what node this is; instead of it: --tls-cert-file=FILE"
    return ""
