"""Manifest text to facts: documents, kinds, defaults, and what is wrong with them. Pure; called by `manifests`.

A manifest is what a user passes to `kubectl apply`. So the API server's defaults that matter here apply (namespace
`default`, empty port name), and the manifest must contain what only an API server allocates (cluster IPs, node ports).
Documents are separated as text, as kubectl does, so that a syntax error in one does not affect the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from controlplane.errors import InvalidObject
from controlplane.facts import Fact
from controlplane.source import objects
from controlplane.source.decode import field_path
from controlplane.source.translate import CLUSTER_SCOPED, TYPES, ApiObject, key_of, translate
from deltaplane import bounded
from deltaplane.model import KIND_NAMES, Kind, ObjectKey

MOST_DOCUMENTS = 100_000  # in one file
_SEPARATOR = re.compile(r"^---(?:[ \t].*)?$", re.MULTILINE)
_KINDS = {
    ("v1", KIND_NAMES[Kind.SERVICE]): Kind.SERVICE,
    ("discovery.k8s.io/v1", KIND_NAMES[Kind.ENDPOINT_SLICE]): Kind.ENDPOINT_SLICE,
    ("v1", KIND_NAMES[Kind.NODE]): Kind.NODE,
    ("networking.k8s.io/v1", KIND_NAMES[Kind.SERVICE_CIDR]): Kind.SERVICE_CIDR,
}


class Entry(Struct, frozen=True):
    """One object of a document. No key: it is unknown which object it is. No fact: it is unusable."""

    name: str  # for reports: "Service default/web", or empty
    key: ObjectKey | None = None
    fact: Fact | None = None
    problems: tuple[str, ...] = ()
    ignored: bool = False  # of a kind that is not used here


Documents = list[tuple[str, tuple[Entry, ...]]]
Readers = Mapping[tuple[str, str], Callable[[dict[str, Any]], Entry]]
"""What is read of objects beside their usual meaning, by apiVersion and kind (endpoints.manifests)."""


class _Loader(yaml.CSafeLoader):
    """A loader that keeps timestamps as text, as in JSON."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - yaml's own class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
    }


def parse(text: str, known: Mapping[str, tuple[Entry, ...]], readers: Readers = MappingProxyType({})) -> Documents:
    """The documents of a file, in order, with their entries. Documents with the same text are not parsed again.

    Raises `bounded.TooMuch`.
    """
    texts = split(text)
    if len(texts) > MOST_DOCUMENTS:
        raise bounded.TooMuch(f"it has {len(texts)} documents; the limit is {MOST_DOCUMENTS}")
    return [(one, known[one] if one in known else read(one, readers)) for one in texts]


def split(text: str) -> list[str]:
    """The texts of a file's documents, in order. Users count from 1, and empty documents count."""
    documents = _SEPARATOR.split(text)
    documents = documents[1:] if len(documents) > 1 and not _has_content(documents[0]) else documents
    return [document.removeprefix("\n") for document in documents]


def _has_content(text: str) -> bool:
    return any(line.strip() and not line.lstrip().startswith(("#", "%")) for line in text.splitlines())


def read(text: str, readers: Readers = MappingProxyType({})) -> tuple[Entry, ...]:
    """The entries of one YAML or JSON document; none if it is empty."""
    if not _has_content(text):
        return ()
    try:
        content = bounded.load(text, _Loader)
    except bounded.TooMuch as error:
        return (Entry("", problems=(f"not read: {error}",)),)
    except ValueError as error:
        return (Entry("", problems=(f"not YAML: {error}",)),)
    return () if content is None else tuple(_entries(content, readers))


def _entries(content: Any, readers: Readers, of_kind: str = "", of_version: str = "") -> Iterator[Entry]:
    if not isinstance(content, dict):
        yield Entry("", problems=(f"not a Kubernetes object but {_shape(content)}",))
        return
    kind = content.get("kind") or of_kind
    version = content.get("apiVersion") or of_version
    if not isinstance(kind, str) or not isinstance(version, str) or not kind or not version:
        yield Entry("", problems=("apiVersion or kind: missing",))
    elif kind.endswith("List") and isinstance(content.get("items"), list):
        for item in content["items"]:
            yield from _entries(item, readers, kind.removesuffix("List"), "" if kind == "List" else version)
    else:
        more = readers.get((version, kind))
        if more is not None:
            yield more(content)
        if more is None or (version, kind) in _KINDS:
            yield _entry(version, kind, content)


def _shape(content: object) -> str:
    return "a list" if isinstance(content, list) else "plain text" if isinstance(content, str) else "a single value"


def _entry(version: str, kind_name: str, content: dict[str, Any]) -> Entry:
    kind = _KINDS.get((version, kind_name))
    if kind is None:
        return Entry(
            _name(kind_name, content), problems=(f"{kind_name} of {version} is not used; ignored",), ignored=True
        )
    try:
        header = msgspec.convert(content, objects.Header)
        key = key_of(kind, _with_namespace(kind, header.metadata))
    except msgspec.ValidationError as error:
        return Entry(kind_name, problems=(field_path(error, "$"),))
    except InvalidObject as error:
        return Entry(kind_name, problems=(str(error).partition(": ")[2],))
    except MemoryError:  # is not the object's fault: the file is read again
        raise
    except Exception as error:  # noqa: BLE001 - as below
        return Entry(kind_name[:64], problems=(f"unforeseen: {type(error).__name__}: {error}",))
    return _used_entry(kind, key, content)


def _name(kind: str, content: dict[str, Any]) -> str:
    metadata = content.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return f"{kind} {name}" if name else kind


def _with_namespace(kind: Kind, metadata: objects.Metadata) -> objects.Metadata:
    if kind not in CLUSTER_SCOPED and not metadata.namespace:
        metadata.namespace = "default"
    return metadata


def _used_entry(kind: Kind, key: ObjectKey, content: dict[str, Any]) -> Entry:
    try:
        thing = msgspec.convert(content, TYPES[kind])
        problems = _complete(kind, thing)
        fact, more = translate(kind, thing)
    except msgspec.ValidationError as error:
        return Entry(str(key), key, problems=(field_path(error, "$"),))
    except InvalidObject as error:
        return Entry(str(key), key, problems=(str(error).removeprefix(f"{key}: "),))
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - a fault of ours with one object must not hold up the others
        return Entry(str(key), key, problems=(f"unforeseen: {type(error).__name__}: {error}",))
    return Entry(str(key), key, fact, (*problems, *more))


def _complete(kind: Kind, thing: ApiObject) -> tuple[str, ...]:
    """Applies the API server's defaults. Raises `InvalidObject` for what only an API server allocates."""
    _with_namespace(kind, thing.metadata)
    if isinstance(thing, objects.EndpointSlice):
        for port in thing.ports or ():
            port.name = port.name or ""  # SetDefaults_EndpointPort of k8s.io/kubernetes/pkg/apis/discovery/v1
    return tuple(_allocations(thing.spec)) if isinstance(thing, objects.Service) and thing.spec else ()


def _allocations(spec: objects.ServiceSpec) -> Iterator[str]:
    if spec.type == "ExternalName":
        return
    if not (spec.cluster_ips or spec.cluster_ip):
        raise InvalidObject("spec.clusterIP: missing: nothing allocates one for a manifest, so name it (or None)")
    for index, port in enumerate(spec.ports or ()):
        if spec.type == "NodePort" and not port.node_port:
            yield f"spec.ports[{index}].nodePort: missing: nothing allocates one for a manifest; not opened"
