"""The Secret with the CAs, and the ConfigMap with what agents believe: read, checked and written.

Pure. What cannot be used is left out and named. What others have put beside ours (labels, other keys) stays. Called by
`keeper`.
"""

from __future__ import annotations

import base64
import binascii
import copy
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from controlplane.certificates import authority
from controlplane.certificates.values import Authority, Bundle, Root
from deltaplane.certificates import Unusable

SECRET, CONFIG_MAP, LEASE = "deltaplane-controlplane-ca", "deltaplane-ca", "deltaplane-certificates"
NO_AUTHORITY = f"Secret {SECRET}: there is no CA in it"
NO_ROOT = f"ConfigMap {CONFIG_MAP}: there is no CA in it"
FILE = "ca.crt"  # in the ConfigMap, as agents mount it
RENEW = "deltaplane.dev/renew-authority"  # an annotation of the Secret, with any value
SINCE = "deltaplane.dev/published"  # an annotation of the ConfigMap: SHA-256 of a certificate -> Unix seconds
_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n?", re.DOTALL)
Object = dict[str, Any]


def secret(thing: Object | None) -> tuple[tuple[Authority, ...], tuple[str, ...]]:
    """The CAs in it, each NAME.crt with its NAME.key, and what is wrong with it."""
    data, found, faults = _map((thing or {}).get("data")), dict[str, Authority](), list[str]()
    for name in sorted({key.rpartition(".")[0] for key in data if key.endswith((".crt", ".key"))}):
        try:
            one = authority.read(_decoded(data, f"{name}.crt"), _decoded(data, f"{name}.key"))
            found[one.name] = one
        except Unusable as error:
            faults.append(f"Secret {SECRET}: {name}.crt and {name}.key: {error}")
    if not found and not faults:
        return (), (NO_AUTHORITY,)
    return tuple(found.values()), tuple(faults)


def _decoded(data: Mapping[str, str], key: str) -> str:
    if key not in data:
        raise Unusable(f"there is no {key}")
    try:
        return base64.b64decode(data[key], validate=True).decode("ascii")
    except (binascii.Error, ValueError) as error:
        raise Unusable(f"{key} is not PEM text") from error


def renewal(thing: Object | None) -> bool:
    """Whether an operator asks for a new CA."""
    return thing is not None and RENEW in _map(_metadata(thing).get("annotations"))


def bundle(thing: Object | None) -> tuple[Bundle, tuple[str, ...]]:
    """What agents believe, and what is wrong with it."""
    text = str(_map((thing or {}).get("data")).get(FILE, ""))
    if thing is None or not text:
        return Bundle(), (NO_ROOT,)
    found, faults = dict[str, Root](), list[str]()
    blocks = _CERTIFICATE.findall(text)
    for block in blocks:
        try:
            root = authority.read_believed(block)
            found[root.name] = root
        except Unusable as error:
            faults.append(f"ConfigMap {CONFIG_MAP}: a certificate in {FILE}: {error}")
    if _CERTIFICATE.sub("", text).strip() or len(found) != len(blocks):
        faults.append(f"ConfigMap {CONFIG_MAP}: {FILE} has more than whole certificates, each once")
    since = _since(thing)
    if since is None:
        faults.append(f"ConfigMap {CONFIG_MAP}: annotation {SINCE} cannot be read")
    roots = tuple(sorted(found.values(), key=lambda root: (root.begins, root.name)))
    return Bundle(roots, {name: at for name, at in (since or {}).items() if name in found}), tuple(faults)


def _since(thing: Object) -> dict[str, float] | None:
    said = _map(_metadata(thing).get("annotations")).get(SINCE, "{}")
    try:
        return msgspec.json.decode(said, type=dict[str, float])
    except (msgspec.MsgspecError, TypeError):
        return None


def with_authorities(thing: Object | None, authorities: tuple[Authority, ...], namespace: str) -> Object:
    """The Secret as it should be."""
    made = _object(thing, "Secret", SECRET, namespace)
    made.setdefault("type", "Opaque")
    data = {key: value for key, value in _map(made.get("data")).items() if not key.endswith((".crt", ".key"))}
    for one in authorities:
        name = f"ca-{one.name[:12]}"
        data |= {f"{name}.crt": _encoded(one.certificate), f"{name}.key": _encoded(one.key)}
    made["data"] = data
    made["metadata"]["annotations"] = {
        key: value for key, value in _map(made["metadata"].get("annotations")).items() if key != RENEW
    }
    return made


def with_bundle(thing: Object | None, wanted: Bundle, namespace: str) -> Object:
    """The ConfigMap as it should be."""
    made = _object(thing, "ConfigMap", CONFIG_MAP, namespace)
    made["data"] = {**_map(made.get("data")), FILE: "".join(root.certificate for root in wanted.roots)}
    since = {name: int(at) for name, at in sorted(wanted.since.items())}
    said = {SINCE: msgspec.json.encode(since).decode()}
    made["metadata"]["annotations"] = {**_map(made["metadata"].get("annotations")), **said}
    return made


def _object(thing: Object | None, kind: str, name: str, namespace: str) -> Object:
    if thing is not None:
        return copy.deepcopy(thing)
    labels = {"app.kubernetes.io/name": "deltaplane-controlplane", "app.kubernetes.io/part-of": "deltaplane"}
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


def _metadata(thing: Object) -> Mapping[str, Any]:
    return _map(thing.get("metadata"))


def _map(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
