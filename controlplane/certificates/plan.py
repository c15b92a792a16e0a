"""What is to be done about the CAs, given what the API server has, what this replica remembers, and the time. Pure.

Secret: the CAs with their keys. ConfigMap: the roots that agents believe, and since when each is there. Every replica
signs its own certificate, so that a CA's key is the only thing they share.

1. A CA is in the Secret before it is in the bundle, and in the bundle before it signs what is served.
2. While another CA can sign, a new one waits until it has been published for `Times.lead`.
3. A root stays in the bundle until it has ended: whatever was signed by it is believed so long.
4. A Secret in which everything can be used is the truth. What a damaged or missing one lacks comes from memory.

Called by `keeper`. All replicas decide alike, so whoever writes first has written for all.
"""

from __future__ import annotations

from msgspec import Struct

from controlplane.certificates.values import Authority, Bundle, Leaf, Root, Seen, Times

MOST = 8  # CAs in the Secret
RENEWED = 2 / 3  # of its life: then the next is made


class Memory(Struct, frozen=True):
    """What a replica knows from before. `signer`: the CA of the certificate that it serves."""

    authorities: tuple[Authority, ...] = ()
    signer: Authority | None = None
    missed: float = 0.0  # seconds for which the Secret has had no CA, as far as this replica knows


class Decision(Struct, frozen=True):
    """`make`: a new CA belongs to the authorities as well."""

    authorities: tuple[Authority, ...]
    make: bool
    write_secret: bool
    bundle: Bundle
    write_bundle: bool


def decide(seen: Seen, memory: Memory, times: Times, now: float) -> Decision:
    """What the objects should have."""
    held = known(seen, memory)
    kept = tuple(sorted((one for one in held if one.ends + times.skew > now), key=_age))[-MOST:]
    make = _wants_another(kept, seen, memory, times, now)
    write = make or seen.renew or {one.name for one in kept} != {one.name for one in seen.authorities}
    write = write or (bool(kept) and not seen.secret_whole)
    bundle = _bundle(kept if not write else seen.authorities, seen, memory, times, now)
    return Decision(kept, make, write, bundle, not seen.bundle_whole or bundle != seen.bundle)


def known(seen: Seen, memory: Memory) -> tuple[Authority, ...]:
    """The CAs that count: the Secret's, and where that is damaged or missing those that are remembered as well."""
    if seen.secret_whole and seen.authorities:
        return seen.authorities
    both = {one.name: one for one in (*memory.authorities, *seen.authorities)}
    return tuple(both.values())


def _wants_another(kept: tuple[Authority, ...], seen: Seen, memory: Memory, times: Times, now: float) -> bool:
    usable = [one for one in kept if one.begins - times.skew <= now < one.ends - times.skew]
    if not usable:
        # Another replica may remember what the Secret has lost: it writes it again in that time.
        names = {one.name for one in kept}
        orphans = [root for root in seen.bundle.roots if root.ends > now and root.name not in names]
        return not orphans or memory.missed >= 3 * times.look
    if len(kept) >= MOST:
        return False
    return seen.renew or all(due(one.begins, one.ends) <= now for one in usable)


def _bundle(known: tuple[Authority, ...], seen: Seen, memory: Memory, times: Times, now: float) -> Bundle:
    signers = (*known, memory.signer) if memory.signer is not None else known
    roots = {root.name: root for root in (*seen.bundle.roots, *(one.root for one in signers))}
    kept = tuple(sorted((root for root in roots.values() if root.ends + times.skew > now), key=_age))
    latest = now + times.skew
    since = seen.bundle.since
    return Bundle(kept, {root.name: since[root.name] if _there(root, seen.bundle, latest) else now for root in kept})


def _there(root: Root, bundle: Bundle, latest: float) -> bool:
    said = bundle.since.get(root.name)
    return said is not None and said <= latest and any(root.name == one.name for one in bundle.roots)


def signer(seen: Seen, memory: Memory, times: Times, now: float) -> Authority | None:
    """The CA that signs what this replica serves; None: there is none that agents can believe, or it is as it was."""
    able = [one for one in memory.authorities if _able(one, seen.bundle, times, now)]
    since = seen.bundle.since
    if settled := [one for one in able if since.get(one.name, now) + times.lead <= now]:
        return max(settled, key=_age)
    if memory.signer is not None and _counts(memory.signer, times, now):
        # One that was taken out of the bundle is put back there first; what it has signed is served meanwhile.
        return memory.signer if _able(memory.signer, seen.bundle, times, now) else None
    return min(able, key=lambda one: (since.get(one.name, now), *_age(one)), default=None)


def _able(one: Authority, bundle: Bundle, times: Times, now: float) -> bool:
    return _counts(one, times, now) and any(root.name == one.name for root in bundle.roots)


def _counts(one: Authority, times: Times, now: float) -> bool:
    return one.begins <= now < one.ends - times.skew


def leaf_due(leaf: Leaf | None, by: Authority, now: float) -> bool:
    """Whether another certificate of this CA is to be served."""
    if leaf is None or leaf.signer != by.name or now < leaf.begins:
        return True
    return leaf.ends < by.ends and due(leaf.begins, leaf.ends) <= now


def leaf_times(by: Authority, times: Times, now: float) -> tuple[float, float]:
    """From when until when a certificate counts that is signed now."""
    return max(now - times.skew, by.begins), min(now + times.leaf, by.ends)


def due(begins: float, ends: float) -> float:
    """When something that counts for this long is to be replaced."""
    return begins + RENEWED * (ends - begins)


def _age(one: Authority | Root) -> tuple[float, str]:
    return one.begins, one.name
