"""Wanted, applied and read back, side by side, and in what they differ. Called between two calls of the agent."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from deltaplane.addresses import parse_address
from deltaplane.explain import explain, explanation, protocol_number, question_of
from deltaplane.explain.answer import Answer, Question
from deltaplane.explain.site import Site
from deltaplane.forwarding import ServiceForwarding
from deltaplane.frontends import slot
from deltaplane.model import Kind, ObjectKey, family_of, protocol_name
from deltaplane.resolve import resolve
from deltaplane.v1 import agent_pb2, objects_pb2
from deltaplane.v1 import delta_pb2 as pb
from deltaplane.views import forwarding_view, place, targets_text
from nodeagent.dataplane.frontend_key import held, identity, name_of, packed
from nodeagent.dataplane.read_back import Found, Readable, Written
from nodeagent.errors import KernelUnavailable
from nodeagent.inspection.facts import Facts


class Unknown(LookupError):
    """There is no such thing here; the text says what to do."""


def forwarding(facts: Facts, request: agent_pb2.GetForwardingRequest) -> agent_pb2.GetForwardingResponse:
    """Raises ValueError for a question that is none, `Unknown` for a Service that is not here."""
    key = _named(facts, request)
    service = facts.mirror.services.get((key.namespace, key.name))
    slices = facts.mirror.slices_of(key.namespace, key.name)
    desired = facts.frontends.without_lost(resolve(key, service, slices, facts.view))
    keys = [identity(entry) for entry in desired.entries]
    account, kernel, differences, error = compared(facts, [desired], keys)
    return agent_pb2.GetForwardingResponse(
        desired=forwarding_view(desired, map(str, facts.frontends.lost(key))),
        applied=shown(account),
        kernel=shown(kernel),
        differences=differences,
        kernel_error=error,
        failed=_failed(facts, {key, *(each.key for each in slices)}),
    )


def explain_here(facts: Facts, site: Site, request: agent_pb2.ExplainHereRequest) -> agent_pb2.ExplainHereResponse:
    """From the mirror, and cross-checked: where the kernel differs, that is the answer. Raises ValueError."""
    question, directory = question_of(request.connection), facts.directory()
    answer = explain(question, site, directory)
    services = [] if answer.service is None else [_of_family(directory.forwarding(answer.service), question.family)]
    _, kernel, differences, error = compared(facts, services, _concerned(question, answer, site))
    unsure, elsewhere = _unapplied(facts, answer, read=not error)
    return agent_pb2.ExplainHereResponse(
        explanation=explanation(request.connection, answer, site),
        rev=facts.rev,
        epoch=facts.epoch.hex(),
        differences=[*unsure, *differences],
        kernel=shown(kernel),
        kernel_error=error,
        elsewhere=elsewhere,
    )


def _concerned(question: Question, answer: Answer, site: Site) -> list[bytes]:
    """The frontends that may take the connection: at its address, and where node ports answer there, the node port."""
    node_port = answer.entry is None and site.is_node_port_address(question.address)
    if answer.entry is not None:
        node_port = not answer.entry.frontend.address  # what has the address comes first
    places = [question.address, *([b""] if node_port else [])]
    return [packed(question.family, address, question.protocol, question.port) for address in places]


def _of_family(service: ServiceForwarding, family: int) -> ServiceForwarding:
    """What of it a connection of this family may meet: the other family's tables are not read for it."""
    entries = tuple(entry for entry in service.entries if entry.frontend.family == family)
    hairpins = tuple(each for each in service.hairpins if family_of(each.address) == family)
    return replace(service, entries=entries, hairpins=hairpins)


def _unapplied(facts: Facts, answer: Answer, *, read: bool) -> tuple[list[str], list[str]]:
    """Why the kernel may not do what is explained, and what is wrong elsewhere.

    `read`: the kernel was compared with what is wanted for this very connection: nothing else concerns the answer.
    """
    mine: list[pb.ObjectFailure] = []
    if answer.service is not None:
        pieces = facts.mirror.slices_of(answer.service.namespace, answer.service.name)
        mine = _failed(facts, {answer.service, *(each.key for each in pieces)})
    unsure = [f"{(name := str(_key(each.key)))} fails: {each.text.removeprefix(f'{name}: ')}" for each in mine]
    others = [each for each in facts.failed if each not in mine]
    elsewhere = [f"{_key(each.key)} is not in the kernel as it should be" for each in others]
    behind = _behind(facts)
    if behind and read and not facts.failed:
        elsewhere.append(behind)
    elif behind and not read and not (facts.complete and facts.failed):
        unsure.append(behind)
    return unsure, elsewhere


def _behind(facts: Facts) -> str:
    """Why the mirror may be ahead of the kernel; empty: it is not."""
    if not facts.complete:
        return "no whole state has been in the kernel since the start: it holds what it held before"
    if not facts.in_step or facts.dataplane.pending():
        return "something wanted is not in the kernel yet, or is refused: it is tried again"
    return ""


def compared(facts: Facts, services: list[ServiceForwarding], keys: list[bytes]) -> tuple[Found, Found, list[str], str]:
    """What is believed and what is read back of these frontends, the differences, and why it could not be read."""
    nothing, dataplane = Found({}), facts.dataplane
    if not isinstance(dataplane, Readable):
        return nothing, nothing, [], f"mode {dataplane.mode} cannot be read back without writing to it"
    account = dataplane.account(keys, services)
    try:
        wanted, kernel = dataplane.wanted(keys, services), dataplane.look(keys, services)
    except (OSError, ValueError, KernelUnavailable) as error:
        return account, nothing, [], str(error)
    return account, kernel, [*_differences(keys, wanted, kernel, "wanted"), *_against(keys, account, kernel)], ""


def _against(keys: Iterable[bytes], account: Found, kernel: Found) -> Iterator[str]:
    """Where the kernel is not what the agent believes it to be: another program has been at it."""
    for key in keys:
        if _meaning(account.frontends.get(key)) != _meaning(kernel.frontends.get(key)):
            yield f"{name_of(key)}: the agent believes that the kernel has it otherwise; another program changed it"


def _differences(keys: Iterable[bytes], wanted: Found, kernel: Found, what: str) -> Iterator[str]:
    for key in keys:
        want, have = wanted.frontends.get(key), kernel.frontends.get(key)
        if _meaning(want) != _meaning(have):
            yield f"{name_of(key)}: {what} {said(want)}; the kernel has {said(have)}"
    for name in sorted(wanted.members - kernel.members):
        yield f"{name}: {what}, and not in the kernel"
    for name in sorted(kernel.members - wanted.members):
        yield f"{name}: in the kernel, and not {what}"


def _meaning(one: Written | None) -> object:
    return None if one is None else (one.targets, one.local, one.refusal, one.words)


def said(one: Written | None) -> str:
    """A frontend in one line."""
    if one is None:
        return "nothing"
    parts = [", ".join(targets_text(one.targets)) or "no endpoints", one.words, one.refusal]
    if one.local:
        parts.insert(1, f"here {', '.join(targets_text(one.local))}")
    return "; ".join(part for part in parts if part)


def shown(found: Found) -> list[agent_pb2.KernelFrontend]:
    """As messages."""
    return [
        agent_pb2.KernelFrontend(
            frontend=_place(key),
            endpoints=targets_text(one.targets),
            local_endpoints=targets_text(one.local),
            verdict={"": "forward", "reject": "refuse"}.get(one.refusal, one.refusal),
            words=one.words,
        )
        for key, one in found.frontends.items()
    ]


def _place(key: bytes) -> str:
    """ADDRESS:PORT/PROTOCOL, as a FrontendView has it."""
    _, address, protocol, port = held(key)
    return f"{place(address, port)}/{protocol_name(protocol)}"


def _named(facts: Facts, request: agent_pb2.GetForwardingRequest) -> ObjectKey:
    key: ObjectKey | None = ObjectKey(Kind.SERVICE, request.namespace, request.name)
    if not request.name:
        if not 0 < request.port < 65536:
            raise ValueError("a namespace and name are needed, or a port, with the address unless it is a node port")
        address, number = parse_address(request.address) if request.address else b"", protocol_number(request.protocol)
        families = ([4] if len(address) == 4 else [6]) if address else [4, 6]
        holders = (facts.frontends.holder(slot(family, number, request.port, address)) for family in families)
        key = next((holder for holder in holders if holder is not None), None)
    if key is None or (key.namespace, key.name) not in facts.mirror.services:
        wanted = key or f"Service at {request.address or 'node port'} {request.port}"
        raise Unknown(f"this agent has no {wanted}: a replica of the control plane says what the cluster has")
    return key


def _failed(facts: Facts, keys: set[ObjectKey]) -> list[pb.ObjectFailure]:
    return [each for each in facts.failed if _key(each.key) in keys]


def _key(key: objects_pb2.ObjectKey) -> ObjectKey:
    return ObjectKey(Kind(key.kind), key.namespace, key.name)
