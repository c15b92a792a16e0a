"""Changes inside one EndpointSlice: found, applied, and joined.

Called by the control plane's store (difference) and log (join), and by the agent's mirror (apply). Everything here
costs the endpoints that changed, plus one pass over the slice's list.
"""

from __future__ import annotations

from deltaplane.digest import endpoint_hash, xor
from deltaplane.model import Endpoint, EndpointSlice, Patch


def difference(old: EndpointSlice, old_hash: int, new: EndpointSlice) -> Patch | None:
    """The patch from `old` to `new`; None where the header differs or the whole slice is no larger than the patch."""
    if not _same_header(old, new):
        return None
    before = {endpoint.address: endpoint for endpoint in old.endpoints}
    upserts, replaced = [], []
    for endpoint in new.endpoints:
        was = before.pop(endpoint.address, None)
        if was != endpoint:
            upserts.append(endpoint)
            if was is not None:
                replaced.append(was)
    if len(upserts) + len(before) >= max(len(new.endpoints), 1):
        return None
    changed = [*upserts, *replaced, *before.values()]
    new_hash = xor(map(endpoint_hash, changed), old_hash)
    return Patch(new.key, old_hash, tuple(upserts), tuple(before), new_hash)


def _same_header(a: EndpointSlice, b: EndpointSlice) -> bool:
    return (a.namespace, a.name, a.service, a.family, a.ports) == (b.namespace, b.name, b.service, b.family, b.ports)


def apply_patch(base: EndpointSlice, patch: Patch) -> tuple[EndpointSlice, int]:
    """The patched slice and its hash, provided that the base has `patch.base_hash`.

    A remove may name an address the base lacks: joining two patches makes such. Whether all is well is for the caller
    to see by comparing the hash with `patch.new_hash`.
    """
    endpoints: dict[bytes, Endpoint] = {endpoint.address: endpoint for endpoint in base.endpoints}
    hash_ = patch.base_hash
    for address in patch.removes:
        gone = endpoints.pop(address, None)
        if gone is not None:
            hash_ ^= endpoint_hash(gone)
    for endpoint in patch.upserts:
        old = endpoints.get(endpoint.address)
        hash_ ^= endpoint_hash(endpoint) ^ (endpoint_hash(old) if old is not None else 0)
        endpoints[endpoint.address] = endpoint
    ordered = tuple([endpoints[address] for address in sorted(endpoints)])
    return EndpointSlice(base.namespace, base.name, base.service, base.family, base.ports, ordered), hash_


def join(first: Patch, second: Patch) -> Patch:
    """One patch that does what `first` and then `second` do; the last word on each address wins."""
    upserts = {endpoint.address: endpoint for endpoint in first.upserts}
    removes = set(first.removes)
    for address in second.removes:
        upserts.pop(address, None)
        removes.add(address)
    for endpoint in second.upserts:
        removes.discard(endpoint.address)
        upserts[endpoint.address] = endpoint
    ordered = tuple([upserts[address] for address in sorted(upserts)])
    return Patch(first.key, first.base_hash, ordered, tuple(sorted(removes)), second.new_hash)
