"""Which names the Kubernetes API permits. Pure; asked wherever a name enters either program.

Follows k8s.io/apimachinery/pkg/util/validation. Services may have DNS-1123 labels (KEP-5311). Names repeat, so each
distinct text is matched once.
"""

from __future__ import annotations

import re
from functools import lru_cache

_PART = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_LABEL = re.compile(_PART)
_SUBDOMAIN = re.compile(rf"{_PART}(\.{_PART})*")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_LONGEST_LABEL, _LONGEST_SUBDOMAIN = 63, 253
_REMEMBERED = 1 << 16
_SHOWN = 80  # characters of a bad text that an error repeats


@lru_cache(maxsize=_REMEMBERED)
def is_label(text: str) -> bool:
    """A DNS-1123 label: namespaces, Services, port names."""
    return len(text) <= _LONGEST_LABEL and _LABEL.fullmatch(text) is not None


@lru_cache(maxsize=_REMEMBERED)
def is_subdomain(text: str) -> bool:
    """A DNS-1123 subdomain: Nodes, EndpointSlices, ServiceCIDRs."""
    return len(text) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None


@lru_cache(maxsize=_REMEMBERED)
def is_label_value(text: str) -> bool:
    """The value of a label, which may be empty: the Service that a slice names, a Node's zone."""
    return len(text) <= _LONGEST_LABEL and _LABEL_VALUE.fullmatch(text) is not None


@lru_cache(maxsize=_REMEMBERED)
def is_plain(text: str) -> bool:
    """Short, and without control characters. An endpoint's zone and hints: the API asks no more of them."""
    return len(text) <= _LONGEST_SUBDOMAIN and text.isprintable()


def shown(text: str) -> str:
    """A text from outside as an error may repeat it: escaped, and cut."""
    return ascii(text[:_SHOWN]) + ("..." if len(text) > _SHOWN else "")
