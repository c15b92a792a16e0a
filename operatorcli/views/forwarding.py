"""`deltaplane get svc NAME --node N`: what a node makes of a Service. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltaplane.advice import failed, next_steps
from deltaplane.v1 import agent_pb2, inspection_pb2, views_pb2
from operatorcli.exits import Exit
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import key, word
from operatorcli.views.basis import heading, is_so

FRONTENDS = columns("FRONTEND*", "KIND", "NEW CONNECTIONS", "ENDPOINTS*", "MASQUERADED+", "AFFINITY+", "SOURCES+")
KERNEL = columns("FRONTEND*", "VERDICT", "ENDPOINTS*", "WORDS+")


def answer(found: inspection_pb2.ResolveForNodeResponse, node: str, now: float) -> tuple[Answer, Exit]:
    """Its frontends there. YES where that is what it should have, and does have. `now` in Unix seconds."""
    forwarding = found.forwarding
    blocks = [*heading(node, found.basis, found.failed, now), *_desired(forwarding)]
    code = Exit.YES if is_so(found.basis, found.failed) else Exit.NO
    return Answer(blocks, plain(found), [key(forwarding.service)]), code


def _desired(forwarding: views_pb2.ForwardingView) -> list[Block]:
    rows = [row for each in forwarding.frontends for row in _rows(each)]
    lost = [Sentence(f"In vain: {text}", "warn") for text in forwarding.lost]
    return [Table(FRONTENDS, rows, empty="no frontend: this proxy leaves the Service alone"), *lost]


def _rows(of: views_pb2.FrontendView) -> list[Sequence[Cell | str]]:
    """One, or two where clients outside the cluster get something else."""
    rows = [_row(of, of.kind, of.verdict, of.endpoints)]
    if of.external_policy_local:
        rows.append(_row(of, "from outside", of.external_verdict, of.local_endpoints))
    return rows


def _row(of: views_pb2.FrontendView, kind: str, verdict: str, endpoints: Sequence[str]) -> Sequence[Cell | str]:
    tone = {"FORWARD": "good", "REJECT": "bad", "DROP": "bad"}.get(verdict, "")
    return (
        of.frontend,
        kind,
        Cell({"FORWARD": "forwarded", "REJECT": "refused", "DROP": "dropped"}.get(verdict, verdict.lower()), tone),
        ", ".join(endpoints) or "none",
        word(of.masquerade, ""),
        f"{of.affinity_seconds}s" if of.affinity_seconds else "-",
        ", ".join(of.source_ranges) or "any",
    )


def here(found: agent_pb2.GetForwardingResponse, now: float, node: str) -> tuple[Answer, Exit]:
    """An agent's own side: wanted, and read back from the kernel; differences are the answer, and a NO."""
    kernel = [(each.frontend, each.verdict, ", ".join(each.endpoints) or "none", each.words) for each in found.kernel]
    failures = [Sentence(failed(each, now), "bad") for each in found.failed]
    failures += [Sentence(text) for text in next_steps(found.failed, node)]
    wrong = [*differing(found.differences, found.kernel_error), *failures]
    so = not found.differences and not found.failed
    blocks: list[Block] = [
        *([] if so else [*wrong, Sentence("")]),
        Sentence("Wanted", "strong"),
        *_desired(found.desired),
        Sentence(""),
        Sentence("In the kernel", "strong"),
        Table(KERNEL, kernel, empty="nothing in the kernel"),
        *(wrong if so else []),
    ]
    return Answer(blocks, plain(found), [key(found.desired.service)]), Exit.YES if so else Exit.NO


def differing(differences: Sequence[str], error: str) -> list[Sentence]:
    """Whether the kernel has what is wanted."""
    if error:
        return [Sentence(f"The kernel could not be read, so nothing is compared: {error}", "warn")]
    if differences:
        return [Sentence(f"The kernel differs: {text}", "bad") for text in differences]
    return [Sentence("The kernel has exactly this.", "good")]
