"""`python -m tests.walkthrough`: plays W1 to W19 on a real two-node cluster and writes docs/walkthrough.md.

Exit code 1 where a story does not show what it wants (the page is not written then), 3 where no cluster can run here.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from tests.walkthrough import modes, seeing, services
from tests.walkthrough.page import page
from tests.walkthrough.shell import Shell
from tests.walkthrough.story import Place, Played, Story, play
from tools.lab import parts
from tools.lab.cluster import cluster as clusters
from tools.lab.cluster import product
from tools.lab.cluster.cluster import Cluster
from tools.lab.jaeger import Jaeger

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
DOCUMENT = REPOSITORY / "docs" / "walkthrough.md"
GUEST = REPOSITORY / "build" / "walkthrough" / "seen.json"  # what `tests.walkthrough.guest` has seen
STORIES = (seeing.INSTALLED, *services.STORIES, *modes.STORIES, *seeing.STORIES)


def shell_on(cluster: Cluster, folder: Path) -> Shell:
    """The operator's, whose files are in `folder`, with the programs and the kubeconfig of the cluster."""
    fabric = cluster.fabric
    spaces = {
        Place.OPERATOR: fabric.apiserver.space,
        Place.NODE_1: fabric.nodes[0].space,
        Place.NODE_2: fabric.nodes[1].space,
        Place.OUTSIDE: fabric.outside[0].space,
    }
    folder.mkdir()
    for name in ("tests", "deploy"):
        (folder / name).symlink_to(REPOSITORY / name)
    path = f"{parts.folder()}:{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin"
    environment = {
        **os.environ, "PATH": path, "KUBECONFIG": str(cluster.api.admin_kubeconfig), "HERE": str(HERE),
        "COLUMNS": "100", "NO_COLOR": "1", "HOME": str(folder),
    }  # fmt: skip
    return Shell(spaces, folder, environment)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.walkthrough", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", metavar="N", type=int, nargs="*", help="these stories and W19, which installs it")
    only = parser.parse_args().only
    reason = clusters.unavailable()
    if reason:
        _say(f"skipped: {reason}")
        return 3
    chosen = [story for story in STORIES if not only or story is seeing.INSTALLED or story.number in only]
    with clusters.running([product.made()]) as cluster:
        cluster.fabric.route(f"{services.BALANCER}/32", cluster.fabric.nodes[0])
        with closing(Jaeger(cluster.fabric.apiserver, cluster.run.folder)):
            shell = shell_on(cluster, cluster.run.folder / "operator")
            played = [(story, _played(story, shell)) for story in chosen]
    wrong = [story for story, steps in played if any(step.lacks for step in steps)]
    if not only and not wrong:
        date = dt.datetime.now(dt.UTC).date().isoformat()
        machine = f"Linux {platform.release().split('-')[0]}, CPython {platform.python_version()}"
        every = sorted([*played, *_guest()], key=lambda each: each[0].number)
        DOCUMENT.write_text(page(every, date, machine))
    _say(f"{len(played) - len(wrong)} of {len(played)} stories show what they should")
    return 1 if wrong else 0


def _played(story: Story, shell: Shell) -> Sequence[Played]:
    steps = []
    for each in play(story, shell.run):
        steps.append(each)
        if each.lacks:
            _say(f"W{story.number}: {each.step.types}\n{each.output}\n{'; '.join(each.lacks)}")
    _say(f"W{story.number} {'differs' if any(each.lacks for each in steps) else 'as it should be'}")
    return steps


def _guest() -> Sequence[tuple[Story, Sequence[Played]]]:
    """W10 and W11, which need IPVS, as they were played inside the guest."""
    from tests.walkthrough import guest

    if not GUEST.exists():
        return []
    shown = json.loads(GUEST.read_text())
    return [
        (story, [Played(step, output) for step, output in zip(story.steps, shown[str(story.number)], strict=True)])
        for story in guest.STORIES
    ]


def _say(text: str) -> None:
    sys.stderr.write(f"walkthrough: {text}\n")


if __name__ == "__main__":
    sys.exit(main())
