"""What somebody may have meant by a word that is no verb: kubectl's verbs, and what is spelled nearly alike. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

KUBECTL = {
    "describe": "`deltaplane get svc NAME` shows a Service, `deltaplane get node NAME` a node",
    "logs": "`kubectl -n deltaplane-system logs POD` has the programs' logs; `deltaplane status` says what is wrong",
    "events": "`deltaplane watch` shows changes as they are sent, `deltaplane watch --commits` as they reach kernels",
    "list": "`deltaplane get svc -A` lists Services, `deltaplane nodes` node agents",
    "ls": "`deltaplane get svc -A` lists Services, `deltaplane nodes` node agents",
    "info": "`deltaplane status` is the control plane at a glance",
    "cluster-info": "`deltaplane status` is the control plane at a glance",
    "health": "`deltaplane status` says what is wrong, if anything",
    "ping": "`deltaplane explain FROM TO --node=NODE` says what becomes of a connection; `deltaplane trace` sends one",
    "rollout": "`deltaplane wait svc/NAME` returns when every node has it",
    "config": "`deltaplane options` lists how a replica is reached",
}


def near(word: str, verbs: Iterable[str]) -> str:
    """A sentence that helps."""
    if word in KUBECTL:
        return f"{KUBECTL[word]}."
    alike = get_close_matches(word, list(verbs), 1, 0.6)
    return f"Did you mean `deltaplane {alike[0]}`?" if alike else "`deltaplane --help` lists what there is."
