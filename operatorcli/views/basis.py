"""Which state an answer about a node is of, said where it is not what the node has acknowledged. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from deltaplane.v1 import delta_pb2, inspection_pb2
from operatorcli.tables import Sentence
from operatorcli.views.nodes import failed


def doubts(
    name: str, basis: inspection_pb2.Basis, failures: Iterable[delta_pb2.ObjectFailure] = ()
) -> Iterator[Sentence]:
    """Why the node's kernel may do something else than the answer says."""
    if not basis.acknowledged:
        yield Sentence(f"{name} has not acknowledged this state: {basis.text or f'revision {basis.rev}'}.", "warn")
    for failure in failures:
        yield Sentence(f"{name}: {failed(failure)}; its kernel may do something else.", "bad")


def silent(replicas: Iterable[inspection_pb2.ReplicaStatus]) -> Iterator[Sentence]:
    """Replicas that did not answer, so that what they know is missing."""
    for each in replicas:
        if each.error:
            yield Sentence(
                f"The replica {each.address} does not answer, and what it knows is missing: {each.error}.", "bad"
            )
