"""The flags of the readiness gate. Knows no I/O."""

from __future__ import annotations

import argparse

from msgspec import Struct

from deltaplane import flags

BOUND = 30.0
SHORTEST, LONGEST = 1.0, 600.0  # seconds


class GateSettings(Struct, frozen=True):
    """`bound`: seconds after which nodes that are late are left out. `percent`: of the nodes that are enough."""

    selector: str = ""
    bound: float = BOUND
    percent: int = 100


def add(parser: flags.Parser) -> None:
    """Adds them."""
    add_ = parser.add_argument
    add_("--readiness-gate", action="store_true", help="set the Pod readiness gate deltaplane.dev/programmed")
    add_("--readiness-gate-selector", default="", metavar="LABELS", help="follow only Pods with these labels for it")
    add_(
        "--readiness-gate-timeout", type=float, default=BOUND, metavar="SECONDS",
        help="leave out nodes that are later than that, from 1 to 600; default: 30",
    )  # fmt: skip
    add_(
        "--readiness-gate-quorum", type=int, default=100, metavar="PERCENT",
        help="so many of the nodes are enough; default: all",
    )  # fmt: skip


def read(given: argparse.Namespace, parser: flags.Parser) -> GateSettings | None:
    """None: the gate is off."""
    if not given.readiness_gate:
        return None
    if given.source == "manifests":
        parser.error("--readiness-gate goes with --source=kubernetes: a folder of manifests has no Pods' conditions")
    if not 1 <= given.readiness_gate_quorum <= 100:
        parser.error(f"--readiness-gate-quorum={given.readiness_gate_quorum}: not 1 to 100")
    if not SHORTEST <= given.readiness_gate_timeout <= LONGEST:
        parser.error(f"--readiness-gate-timeout={given.readiness_gate_timeout:g}: not {SHORTEST:g} to {LONGEST:g}")
    return GateSettings(given.readiness_gate_selector, given.readiness_gate_timeout, given.readiness_gate_quorum)
