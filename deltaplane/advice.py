"""What is wrong with a node and with objects on it, and what to do: sentences of the command and of the page. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from deltaplane.v1 import delta_pb2, inspection_pb2
from deltaplane.wording import count, key, seconds, since, unlabelled

LOG = " (kubectl -n deltaplane-system logs POD)"
LAGS = 10.0  # seconds behind from which on a node is a problem, and not just about to acknowledge
STEPS = {
    delta_pb2.ERROR_CODE_KERNEL_REJECTED: (
        "`deltaplane resync {name}` has the agent compare everything with the kernel; if it is refused again, see the"
        " kernel's log (dmesg) and modules, and report it with `deltaplane dump` (runbook: DeltaplaneServicesFail)"
    ),
    delta_pb2.ERROR_CODE_CONFLICT: "see which program on the node has the port: ss -lntup",
    delta_pb2.ERROR_CODE_RESOURCE_LIMIT: "see the limits of the agent's container: open files and memory",
}


class Trouble(Struct, frozen=True):
    """A sentence without the node's name. `step`: it says what to do. `minor`: the node serves all the same."""

    text: str
    step: bool = False
    minor: bool = False


def failed(failure: delta_pb2.ObjectFailure, now: float | None) -> str:
    """An object that a node cannot serve, and why. `now` in Unix seconds; None: without what passes with time."""
    code = delta_pb2.ErrorCode.Name(failure.code).removeprefix("ERROR_CODE_")
    text = f"{key(failure.key)} fails with {code}: {plain(failure) or 'the agent gave no text'}"
    return text if now is None else f"{text}; {again(failure.retry_unix_nano, now)}"


def plain(failure: delta_pb2.ObjectFailure) -> str:
    """Its text without the object's own name before it."""
    name = "/".join(filter(None, (failure.key.namespace, failure.key.name)))
    before, colon, rest = failure.text.partition(": ")
    return rest if colon and before.rpartition(" ")[2] == name else failure.text


def again(retry_unix_nano: int, now: float) -> str:
    """When the agent tries it again."""
    left = retry_unix_nano / 1e9 - now
    if not retry_unix_nano:
        return "tried again by itself"
    return f"tried again in {seconds(left)}" if left > 0 else "tried again about now"


def steps(failures: Iterable[delta_pb2.ObjectFailure], name: str) -> list[str]:
    """What to do about failures on this node: a sentence for each kind of them."""
    codes = dict.fromkeys(failure.code for failure in failures)
    return [STEPS[code].format(name=name) for code in codes if code in STEPS]


def next_steps(failures: Iterable[delta_pb2.ObjectFailure], name: str) -> list[str]:
    """Likewise, as lines that begin with the node's name."""
    return [f"{name}: {text}." for text in steps(failures, name)]


def troubles(node: inspection_pb2.NodeStatus, now: float | None, name: str = "") -> Iterator[Trouble]:
    """What is wrong with a node. `now` in Unix seconds; None: without what passes with time. `name`: what stands for
    the node's in commands; empty: its own."""
    name = name or node.node_name
    if node.state == inspection_pb2.NODE_STATE_DISCONNECTED:
        yield from _disconnected(node, now, name)
    elif node.HasField("pending"):
        yield from _held_up(node, now)
    elif node.state == inspection_pb2.NODE_STATE_STALLED:
        yield Trouble(f"connected, but makes no progress; see the agent's log and load{LOG}.")
    elif node.behind_seconds > LAGS:
        late = "lags" if now is None else f"{seconds(node.behind_seconds)} behind"
        yield Trouble(f"{late}; see the agent's log and load{LOG}.")
    yield from (Trouble(f"{failed(failure, now)}.") for failure in node.failed)
    if node.more_failed:
        yield Trouble(f"{count(node.more_failed, 'more object')} failing: deltaplane get node {name}")
    for text in steps(node.failed, name):
        yield Trouble(f"{text}.", step=True)
    yield from _settings(node, name)


def _settings(node: inspection_pb2.NodeStatus, name: str) -> Iterator[Trouble]:
    if node.HasField("brake"):
        yield Trouble(
            f"its safety brake holds a change that removes {node.brake.services_removed} of"
            f" {count(node.brake.services, 'Service')}; if that is right: deltaplane release-brake {name}"
        )
    if node.proxy_mode_asked not in {"", "auto", node.proxy_mode}:
        yield Trouble(
            f"runs {node.proxy_mode} instead of {node.proxy_mode_asked}: {node.proxy_mode_reason}.", minor=True
        )


def _for(unix_nano: int, now: float | None) -> str:
    """` for 12s`; empty where it is not known."""
    return "" if now is None or not unix_nano else f" for {since(unix_nano, now)}"


def _held_up(node: inspection_pb2.NodeStatus, now: float | None) -> Iterator[Trouble]:
    """What the agent says of a commit that takes long. One that merely runs is a problem when the node lags."""
    pending = node.pending
    lasts = _for(pending.since_unix_nano, now)
    if pending.text:
        yield Trouble(f"its kernel has taken no commit{lasts}: {pending.text}.")
        yield Trouble(
            f"see the kernel's log (dmesg), what else changes its rules, and the agent's log{LOG}.", step=True
        )
    elif node.behind_seconds > LAGS or node.state == inspection_pb2.NODE_STATE_STALLED:
        yield Trouble(f"its commit of revision {pending.rev} has been running{lasts}; see the node's load.")


def may_have_it(silent: Sequence[str]) -> str:
    """Of a node without an open stream at any replica that answered; `silent`: the others, one at least."""
    return f"{', '.join(silent)} may have its stream and {'does' if len(silent) == 1 else 'do'} not answer"


def _disconnected(node: inspection_pb2.NodeStatus, now: float | None, name: str) -> Iterator[Trouble]:
    reason = f": {node.disconnected_reason}" if node.disconnected_reason else ""
    if node.missing_labels:
        reason += f"; {unlabelled(node.missing_labels)}"
    if node.silent_replicas:
        what = f"at the replicas that answer it is not connected{_for(node.disconnected_unix_nano, now)}{reason}"
        yield Trouble(f"{may_have_it(node.silent_replicas)}; {what}.")
        return
    yield Trouble(f"its agent is not connected{_for(node.disconnected_unix_nano, now)}{reason}.")
    if node.missing_labels:
        yield Trouble(handed_back(name, node.missing_labels), step=True)
        return
    yield Trouble(
        f"see whether its agent runs{LOG}, and that firewalls and routes let port 50051 through in both directions:"
        f" what it sends, and what comes back. `deltaplane status --server=unix:///PATH` on {name} says"
        f" what it tries and its last error (PATH: the agent's --inspect-socket;"
        " runbook: DeltaplaneAgentDisconnected).",
        step=True,
    )


def handed_back(name: str, missing: Iterable[str]) -> str:
    """What to do about a node without an agent whose Node lacks these labels."""
    return (
        f"that is right where another proxy, such as kube-proxy, serves {name}: `wait --except={name}` leaves it out of"
        f" an answer; where an agent is to serve it: kubectl label node {name} {' '.join(missing)}"
    )
