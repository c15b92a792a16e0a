"""Objects that a node cannot serve: why, when it is tried again, and what to do. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from deltaplane.v1 import delta_pb2
from operatorcli.text import key, seconds

STEPS = {
    delta_pb2.ERROR_CODE_KERNEL_REJECTED: (
        "`deltaplane resync {name}` has the agent compare everything with the kernel; if it is refused again, see the"
        " kernel's log (dmesg) and modules, and report it with `deltaplane dump` (runbook: DeltaplaneServicesFail)"
    ),
    delta_pb2.ERROR_CODE_CONFLICT: "see which program on the node has the port: ss -lntup",
    delta_pb2.ERROR_CODE_RESOURCE_LIMIT: "see the limits of the agent's container: open files and memory",
}


def failed(failure: delta_pb2.ObjectFailure, now: float) -> str:
    """An object that a node cannot serve, and why. `now` in Unix seconds."""
    code = delta_pb2.ErrorCode.Name(failure.code).removeprefix("ERROR_CODE_")
    text = f"{key(failure.key)} fails with {code}: {failure.text or 'the agent gave no text'}"
    return f"{text}; {again(failure.retry_unix_nano, now)}"


def again(retry_unix_nano: int, now: float) -> str:
    """When the agent tries it again."""
    left = retry_unix_nano / 1e9 - now
    if not retry_unix_nano:
        return "tried again by itself"
    return f"tried again in {seconds(left)}" if left > 0 else "tried again about now"


def next_steps(failures: Iterable[delta_pb2.ObjectFailure], name: str) -> list[str]:
    """What to do about failures on this node: a line for each kind of them."""
    codes = dict.fromkeys(failure.code for failure in failures)
    return [f"{name}: {STEPS[code].format(name=name)}." for code in codes if code in STEPS]
