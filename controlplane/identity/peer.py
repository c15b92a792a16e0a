"""Who a peer is, from what is known of its connection. Pure; called by `door`.

A certificate speaks for a node by one URI among its alternative names: spiffe://TRUST-DOMAIN/node/NAME. That is the
form in which issuers that know machines give out names (SPIFFE), certificate tools can write it, and it cannot be
mistaken for a host's name, as a DNS name or a common name could. A token speaks for the node that the API server says
it is bound to.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

from deltaplane.names import is_subdomain, shown

ACCOUNT = "system:serviceaccount:"
NODE_NAME = "authentication.kubernetes.io/node-name"
TLS = "TLSv1.3"


class Way(Enum):
    """How peers reach this replica, which decides what can be known of them."""

    TLS = "tls"
    SOCKET = "socket"  # a unix socket: whoever may open the file
    INSECURE = "insecure"  # whoever reaches the port


class Facts(Struct, frozen=True):
    """Of one call. `tls`: the version; empty: plain text. `uris`: of a certificate that a client CA signed.

    `token`: what follows Bearer; empty: there is none.
    """

    way: Way
    tls: str = ""
    uris: tuple[str, ...] = ()
    token: str = ""
    resumed: bool = False  # nobody looked at a certificate: the connection is the continuation of an earlier one


class User(Struct, frozen=True):
    """Whose token it is, in the API server's words."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: dict[str, tuple[str, ...]] = {}


class Identity(Struct, frozen=True):
    """`name` is for people. `node`: the only one it speaks for; empty: none. `trusted`: it may be and ask whatever it
    says, because nothing can be known of it, as the operator wanted it. `user`: where a token said who it is."""

    name: str
    node: str = ""
    trusted: bool = False
    operator: bool = False
    replica: bool = False  # another replica of this control plane, which may ask whatever operators may
    user: User | None = None


class Refusal(Struct, frozen=True):
    """`status`: a gRPC status's name. `reason`: one of few words, to count by. `text`: for a person."""

    status: str
    reason: str
    text: str


def known(facts: Facts, domain: str) -> Identity | Refusal | None:
    """Who it is without asking anybody; None: its token has to say. `domain`: the trust domain of certificates."""
    if facts.way is not Way.TLS:
        return Identity("whoever opens the socket" if facts.way is Way.SOCKET else "whoever connects", trusted=True)
    if facts.tls != TLS:
        return Refusal("UNAUTHENTICATED", "tls-version", f"the connection is {shown(facts.tls)}, not {TLS}")
    ours = [uri for uri in facts.uris if uri.startswith(f"spiffe://{domain}/")]
    if len(ours) > 1:
        return Refusal("UNAUTHENTICATED", "certificate", f"the certificate has {len(ours)} names of {domain}")
    if ours and facts.resumed:
        return Refusal(
            "UNAUTHENTICATED", "resumed", "the certificate was checked on an earlier connection: connect anew"
        )
    return _named(ours[0], domain) if ours else None


def _named(uri: str, domain: str) -> Identity | Refusal:
    kind, _, name = uri.removeprefix(f"spiffe://{domain}/").partition("/")
    if kind == "node" and is_subdomain(name):
        return Identity(uri, node=name)
    if kind == "operator" and is_subdomain(name):
        return Identity(uri, operator=True)
    if kind == "replica" and is_subdomain(name):
        return Identity(uri, replica=True)
    forms = " or ".join(f"spiffe://{domain}/{kind}/NAME" for kind in ("node", "operator", "replica"))
    return Refusal("UNAUTHENTICATED", "certificate", f"the certificate's name {shown(uri)} is not {forms}")


def of_user(user: User, replicas: str = "") -> Identity:
    """Whom a token that the API server knows speaks for. `replicas`: NAMESPACE/NAME of the replicas' ServiceAccount."""
    nodes = user.extra.get(NODE_NAME, ())
    replica = bool(replicas) and user.name == ACCOUNT + replicas.replace("/", ":")
    return Identity(user.name, node=nodes[0] if len(nodes) == 1 else "", replica=replica, user=user)


def agent(identity: Identity, account: str) -> Refusal | None:
    """Why it may not stream as an agent; None: it may. `account`: NAMESPACE/NAME of the agents' ServiceAccount."""
    if identity.trusted:
        return None
    if identity.user is not None and identity.user.name != ACCOUNT + account.replace("/", ":"):
        text = f"{shown(identity.name)} is not the agents' ServiceAccount {account}"
        return Refusal("PERMISSION_DENIED", "account", text)
    if not identity.node:
        text = f"{shown(identity.name)} is bound to no node: bind the token to a Pod or Node (Kubernetes 1.30)"
        return Refusal("PERMISSION_DENIED", "no-node", text)
    return None


def speaks_for(identity: Identity, node_name: str) -> Refusal | None:
    """Why it may not be the agent of this node; None: it may."""
    if identity.trusted or identity.node == node_name:
        return None
    text = f"this is node {identity.node}, and does not speak for node {shown(node_name)}"
    return Refusal("PERMISSION_DENIED", "another-node", text)
