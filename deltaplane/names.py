"""The rules for names in Kubernetes, as regular expressions: k8s.io/apimachinery/pkg/util/validation, RFC 1123.

Names that repeat (100,000 endpoints stand on a few thousand nodes) have their answers remembered by `is_...`. What
names one object alone is asked of `matches_...`: to remember it would take memory and save nothing. Used by
`validation` and by the control plane's translation.
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import ip_address

LABEL_LENGTH, SUBDOMAIN_LENGTH = 63, 253
_MEMORY = 1 << 14
_LABEL = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_CLUSTER = re.compile(r"[-A-Za-z0-9._:]{1,128}")
_VALUE = re.compile(r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]*[A-Za-z0-9])?)?")


def matches_label(text: str) -> bool:
    """DNS-1123 label: namespaces, Services (KEP-5311), port names."""
    return len(text) <= LABEL_LENGTH and _LABEL.fullmatch(text) is not None


def matches_subdomain(text: str) -> bool:
    """DNS-1123 subdomain: EndpointSlices, Nodes, ServiceCIDRs."""
    return len(text) <= SUBDOMAIN_LENGTH and _SUBDOMAIN.fullmatch(text) is not None


def matches_label_value(text: str) -> bool:
    """A label's value, which may be empty: zones, the Service of an EndpointSlice."""
    return len(text) <= LABEL_LENGTH and _VALUE.fullmatch(text) is not None


is_label = lru_cache(maxsize=_MEMORY)(matches_label)
is_subdomain = lru_cache(maxsize=_MEMORY)(matches_subdomain)
is_label_value = lru_cache(maxsize=_MEMORY)(matches_label_value)


@lru_cache(maxsize=_MEMORY)
def is_plain(text: str) -> bool:
    """Short and printable: an endpoint's zone and its hints, of which the API asks no more."""
    return len(text) <= SUBDOMAIN_LENGTH and text.isprintable()


def is_cluster_id(text: str) -> bool:
    """What Welcome.cluster_id may be, apart from empty: a UID, or a word of an operator's own."""
    return _CLUSTER.fullmatch(text) is not None


def shown(text: str) -> str:
    """The text as it goes into a message for a person: quoted, escaped, and cut."""
    return repr(text if len(text) <= 80 else f"{text[:80]}...")


def shown_address(packed: bytes) -> str:
    """Packed bytes as they go into a message for a person: the address, or hex where they are none."""
    if len(packed) in {4, 16}:
        return str(ip_address(packed))
    return (packed.hex() if len(packed) <= 40 else f"{packed[:40].hex()}...") or "no address"
