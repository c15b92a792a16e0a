"""`deltaplane get svc NAME --node N`: what a node makes of a Service. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from deltaplane.v1 import agent_pb2, inspection_pb2, views_pb2
from operatorcli.output import Answer, plain
from operatorcli.tables import Block, Cell, Sentence, Table, columns
from operatorcli.text import key, word
from operatorcli.views.basis import doubts
from operatorcli.views.nodes import failed

FRONTENDS = columns("FRONTEND*", "KIND", "NEW CONNECTIONS", "ENDPOINTS*", "MASQUERADED+", "AFFINITY+", "SOURCES+")
KERNEL = columns("FRONTEND*", "VERDICT", "ENDPOINTS*", "WORDS+")


def answer(found: inspection_pb2.ResolveForNodeResponse, node: str) -> Answer:
    """Its frontends there, and what is in doubt."""
    forwarding = found.forwarding
    blocks: list[Block] = [
        *_desired(forwarding),
        *doubts(node, found.basis, found.failed),
    ]
    return Answer(blocks, plain(found), [key(forwarding.service)])


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


def here(found: agent_pb2.GetForwardingResponse) -> Answer:
    """An agent's own side: wanted, and read back from the kernel; differences are the answer."""
    kernel = [(each.frontend, each.verdict, ", ".join(each.endpoints) or "none", each.words) for each in found.kernel]
    blocks: list[Block] = [
        *_desired(found.desired),
        Sentence(""),
        Table(KERNEL, kernel, title="In the kernel", empty="nothing in the kernel"),
        *differing(found.differences, found.kernel_error),
        *(Sentence(f"{failed(each)}", "bad") for each in found.failed),
    ]
    return Answer(blocks, plain(found), [key(found.desired.service)])


def differing(differences: Sequence[str], error: str) -> list[Sentence]:
    """Whether the kernel has what is wanted."""
    if error:
        return [Sentence(f"The kernel could not be read, so nothing is compared: {error}", "warn")]
    if differences:
        return [Sentence(f"The kernel differs: {text}", "bad") for text in differences]
    return [Sentence("The kernel has exactly this.", "good")]
