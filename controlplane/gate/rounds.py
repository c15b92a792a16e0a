"""When a Pod's gate is to be set: what one answer of WaitApplied means for it. Pure.

A node that is gone or stuck must not stop every rolling update: after a bound it is left out, and named. Where more
than half of the nodes lack it, something else is wrong than a node, and the gate stays.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from msgspec import Struct

from deltaplane.model import EndpointSlice
from deltaplane.v1 import inspection_pb2 as pb
from deltaplane.views import key_message

WITHOUT_SERVICE = 10.0  # seconds for a Service's slice to name the Pod; nobody sends to one that has none
ROUND = 2.0  # seconds; then the slices of that moment are asked for, which peers may have had for longer
LEFT_OUT = "NodesLeftOut"
SHOWN = 10  # nodes that are named


class Verdict(Struct, frozen=True):
    """`set_`: the gate is true now. `reason` and `text`: of the condition and, where `told`, of an Event."""

    set_: bool
    reason: str
    text: str
    told: bool = False

    @property
    def left_out(self) -> bool:
        """Whether it is set though nodes lack the Pod."""
        return self.reason == LEFT_OUT


def question(slices: Iterable[EndpointSlice], hashes: Iterable[int], percent: int) -> pb.WaitAppliedRequest:
    """That every node has these slices with this content. By content, since a slice may be streamed before its Pod is
    Ready by the API: its version does not say."""
    first, *more = (
        pb.ObjectVersion(key=key_message(piece.key), hash=f"{hash_:016x}")
        for piece, hash_ in zip(slices, hashes, strict=True)
    )
    return pb.WaitAppliedRequest(object=first, also=more, quorum_percent=percent, timeout_seconds=ROUND)


def verdict(last: pb.WaitAppliedResponse, waited: float, bound: float, left_out: Collection[str] = ()) -> Verdict:
    """`waited`: seconds since the Pod lacked nothing but its gate. `bound`: after which nodes are left out.

    `left_out`: nodes that were left out before, and have lacked every Pod since: nobody waits for them again.
    """
    nodes = f"{last.nodes_applied} of {last.chosen_nodes} nodes"
    if last.applied:
        return Verdict(True, "Programmed", f"{nodes} send to it")
    if waited < bound and not (last.lacking and {each.node_name for each in last.lacking} <= set(left_out)):
        return Verdict(False, "Waiting", f"{nodes} send to it so far")
    lacking = max(0, last.chosen_nodes - last.nodes_applied)
    named = ", ".join(f"{each.node_name} ({each.text or 'late'})" for each in last.lacking[:SHOWN])
    more = f" and {lacking - min(SHOWN, len(last.lacking))} more" if lacking > min(SHOWN, len(last.lacking)) else ""
    if not last.nodes_applied or 2 * lacking > last.chosen_nodes:
        text = f"{nodes} send to it after {waited:.0f} s, too few to leave the others out: {named}{more}"
        return Verdict(False, "TooFewNodes", text, told=True)
    text = f"{nodes} send to it after {waited:.0f} s; left out: {named}{more}"
    return Verdict(True, LEFT_OUT, text, told=True)


NO_SERVICE = Verdict(True, "NoService", "no Service has it as an endpoint")
