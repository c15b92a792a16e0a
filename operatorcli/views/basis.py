"""Which state an answer about a node is of: said above it, where its kernel may do something else. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from deltaplane.advice import failed, may_have_it, next_steps
from deltaplane.v1 import delta_pb2, inspection_pb2
from operatorcli.tables import Block, Sentence
from operatorcli.text import key, listed, since

ASK = "Its agent's own socket knows more: run this on {name} with --server=unix:///PATH (the agent's --inspect-socket)."
Failures = Sequence[delta_pb2.ObjectFailure]


def is_so(basis: inspection_pb2.Basis, failures: Failures = ()) -> bool:
    """Whether the node has the newest form of what the answer is about, as far as it says."""
    return basis.acknowledged and not basis.changed and not failures and not basis.silent_replicas


def heading(name: str, basis: inspection_pb2.Basis, failures: Failures, now: float) -> list[Block]:
    """Why the node's kernel may do something else than the answer says. `now` in Unix seconds."""
    found = [*_state(name, basis, now), *_failing(name, failures, now)]
    return [*found, Sentence("")] if found else []


def _state(name: str, basis: inspection_pb2.Basis, now: float) -> Iterator[Sentence]:
    if basis.silent_replicas:
        yield from _unsure(name, basis, now)
    elif not basis.acknowledged:
        yield Sentence(
            f"What follows is wanted now{_head(basis)}, and not what {name} has: {lacks(name, basis, now)}.", "bad"
        )
        yield Sentence(ASK.format(name=name))
    elif basis.changed:
        text = f"{name} does not have the newest of this: {lacks(name, basis, now)}. What follows is what it has"
        yield Sentence(f"{text} (revision {basis.rev}).", "bad")
    elif basis.disconnected_unix_nano:
        text = f"{name} is disconnected{_since(basis.disconnected_unix_nano, now)}; nothing of this has changed since"
        yield Sentence(f"{text}.", "warn")


def _unsure(name: str, basis: inspection_pb2.Basis, now: float) -> Iterator[Sentence]:
    """A replica that is silent may know of a newer state."""
    lead = f"It is not known what {name} has: {may_have_it(basis.silent_replicas)}. What follows is"
    if basis.acknowledged:
        last = f"what it had when its stream at another replica ended{_ago(basis, now)}"
        yield Sentence(f"{lead} {last} (revision {basis.rev}).", "bad")
    else:
        yield Sentence(f"{lead} wanted now{_head(basis)}.", "bad")
    yield Sentence(ASK.format(name=name))


def _ago(basis: inspection_pb2.Basis, now: float) -> str:
    unix_nano = basis.disconnected_unix_nano
    return f", {since(unix_nano, now)} ago" if unix_nano else ""


def lacks(name: str, basis: inspection_pb2.Basis, now: float) -> str:
    """What has changed that the node has not, and since when nothing has come from it."""
    if not basis.applied_rev:
        return basis.text or f"{name} has acknowledged no state"
    parts = [f"{name} has acknowledged revision {basis.applied_rev}{_of(basis)}"]
    if basis.disconnected_unix_nano:
        parts.append(f"it is disconnected{_since(basis.disconnected_unix_nano, now)}")
    if not basis.acknowledged:
        parts.append(basis.text)
    elif basis.changed:
        parts.append(f"since then {changed(basis)} changed")
    return "; ".join(filter(None, parts))


def changed(basis: inspection_pb2.Basis) -> str:
    """The objects that have changed since: the first ones by name."""
    names = [key(each) for each in basis.changed]
    more = max(0, len(names) - 5) + basis.more_changed
    return f"{', '.join(names[:5])} and {more} more" if more > 0 else listed(names)


def _of(basis: inspection_pb2.Basis) -> str:
    return f" of {basis.head_rev}" if basis.head_rev > basis.applied_rev else ""


def _head(basis: inspection_pb2.Basis) -> str:
    return f" (revision {basis.rev})" if basis.rev else ""


def _since(unix_nano: int, now: float) -> str:
    return f" for {since(unix_nano, now)}" if unix_nano else ""


def _failing(name: str, failures: Failures, now: float) -> Iterator[Sentence]:
    for failure in failures:
        yield Sentence(f"{name}: {failed(failure, now)}", "bad")
    if failures:
        yield Sentence(f"So what follows is what is wanted, and {name}'s kernel does something else.", "bad")
        yield from (Sentence(text) for text in next_steps(failures, name))
        yield Sentence(ASK.format(name=name))


def silent(replicas: Iterable[inspection_pb2.ReplicaStatus]) -> Iterator[Sentence]:
    """Replicas that did not answer, so that what they know is missing."""
    for each in replicas:
        if each.error:
            yield Sentence(
                f"The replica {each.address} does not answer, and what it knows is missing: {each.error}.", "bad"
            )
