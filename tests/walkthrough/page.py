"""docs/walkthrough.md of what was played."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tests.walkthrough.story import Played, Story

LINES = 24  # of one command's output; what is more is left out, and said
WIDTH = 150
_TIMES = re.compile(r"\x1b\[[0-9;]*m")


def page(played: Sequence[tuple[Story, Sequence[Played]]], date: str, machine: str) -> str:
    """Markdown: a section for each story, each command with what it showed."""
    lines = [
        "# What an operator does and sees",
        "",
        f"Written by `make walkthrough` on {date} ({machine}): do not edit. Every command ran, and what is",
        "shown is what it printed, on a real Kubernetes of two nodes (kubelets with containers, the real API",
        "server) with nothing but Deltaplane as Service proxy. W10 and W11 ran in a guest whose kernel has IPVS.",
        "The run fails where a command does not show what the story wants.",
        "",
        "The prompt says where a command is typed: `$` is the operator's own host, `node-1#` a node, `outside$` a",
        "host outside the cluster.",
    ]
    for story, steps in played:
        lines += ["", f"## W{story.number}: {story.wants}", ""]
        for each in steps:
            lines += _shown(each)
    return "\n".join(lines) + "\n"


def _shown(played: Played) -> list[str]:
    step = played.step
    output = [_TIMES.sub("", line)[:WIDTH].rstrip() for line in played.output.rstrip("\n").splitlines()]
    if len(output) > LINES:
        output = [*output[:LINES], f"... ({len(output) - LINES} lines more)"]
    typed = f"{step.at.value} {step.types}"
    return [*([step.says, ""] if step.says else []), "```console", typed, *output, "```", ""]
