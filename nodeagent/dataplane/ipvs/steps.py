"""The messages that bring a virtual server to what is wanted, and what refusals mean. Pure; `writer` sends them."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from deltaplane.forwarding import Target
from deltaplane.model import Protocol
from nodeagent.dataplane.ipvs import wire as codec
from nodeagent.dataplane.ipvs.netlink_batch import Order, reason
from nodeagent.dataplane.ipvs.objects import Held, Server, VirtualKey

CONTRADICTIONS = {
    codec.NEW_SERVICE: (errno.EEXIST,),
    codec.SET_SERVICE: (errno.ESRCH,),
    codec.DEL_SERVICE: (errno.ESRCH,),
    codec.NEW_DEST: (errno.EEXIST, errno.ESRCH),
    codec.SET_DEST: (errno.ENOENT, errno.ESRCH),
    codec.DEL_DEST: (errno.ENOENT, errno.ESRCH),
}
"""By command, the errors that say the kernel holds something else than we think."""


class Step(NamedTuple):
    """One message to IPVS: to which virtual server, and for which address and port of a Service."""

    command: int
    at: VirtualKey
    cause: VirtualKey
    server: Server | None = None
    target: Target | None = None
    weight: int = 1


def steps_to(at: VirtualKey, cause: VirtualKey, server: Server, held: Held | None) -> Iterator[Step]:
    """From what is held (None: nothing) to the server. TCP endpoints that leave get weight 0, others go at once."""
    have: Mapping[Target, int] = held.reals if held is not None else {}
    idle = held.idle if held is not None else ()
    if held is None or held.manner != server.manner:
        yield Step(codec.NEW_SERVICE if held is None else codec.SET_SERVICE, at, cause, server)
    wanted = frozenset(server.targets)
    for target in [target for target in server.targets if target not in have]:
        yield Step(codec.NEW_DEST, at, cause, target=target)
    for target in [target for target, weight in have.items() if target in wanted and weight != 1]:
        yield Step(codec.SET_DEST, at, cause, target=target)
    for target in [target for target in idle if target not in wanted and have.get(target) == 0]:
        yield Step(codec.DEL_DEST, at, cause, target=target)
    for target in [target for target, weight in have.items() if target not in wanted and weight]:
        if cause.protocol == Protocol.TCP:
            yield Step(codec.SET_DEST, at, cause, target=target, weight=0)
        else:
            yield Step(codec.DEL_DEST, at, cause, target=target)


def order(step: Step) -> Order:
    """The message of a step."""
    manner = step.server.manner if step.server is not None else None
    body = codec.service(step.at, manner)
    if step.target is not None:
        body += codec.dest(step.at.family, step.target, None if step.command == codec.DEL_DEST else step.weight)
    return Order(step.command, body)


def explained(step: Step, code: int) -> str:
    """Why it was refused, for the operator."""
    if step.server is not None and code == errno.ENOENT:
        return f"the kernel has no scheduler {step.server.manner.scheduler}: load ip_vs_{step.server.manner.scheduler}"
    return reason(code)
