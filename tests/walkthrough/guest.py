"""W10 and W11, which need IPVS: played in a User-mode Linux guest, with nodes and Pods that are network namespaces.

`python -m tests.walkthrough.guest FILE`, inside the guest, writes what was seen as JSON: by number, the outputs of the
story's commands. Exit code 1 where one does not show what it should.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from tests.vm.services import vip
from tests.walkthrough.shell import Shell
from tests.walkthrough.story import Place, Step, Story, play
from tools.lab import fabric as fabrics
from tools.lab import manifests
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Topology

SCHEDULERS = ("rr", "lc", "dh", "sh", "sed", "nq")
_IN_TURN = "for i in 1 2 3 4 5 6; do (exec 3<>/dev/tcp/{address}/80 && head -n 1 <&3 | cut -d' ' -f1); done"

STORIES = (
    Story(
        10,
        "ipvs mode: a virtual server for each address and port, a real server for each endpoint, and an answer to ping",
        [
            Step(
                "The virtual server of a Service with four endpoints.",
                f"ipvsadm -Ln -t {vip(4)}:80",
                [rf"^TCP +{vip(4)}:80 rr", r"(^ +-> 10\.\S+:8080 +Masq +1.*\n?){4}"],
                at=Place.NODE_1,
            ),
            Step(
                "The address is on the device of all ClusterIPs.",
                "ip -4 -o address show dev kube-ipvs0 | tr -s ' ' | cut -d' ' -f2-4",
                [rf"{vip(4)}/32"],
                at=Place.NODE_1,
            ),
            Step(
                "It answers ping.",
                f"busybox ping -c 1 -W 2 {vip(4)} | grep received",
                ["1 packets received"],
                at=Place.NODE_1,
            ),
        ],
    ),
    Story(
        11,
        "the ipvs scheduler: with rr, connections walk the endpoints in turn; others can be chosen",
        [
            Step(
                "Six connections, one after the other.",
                _IN_TURN.format(address=vip(4)),
                [r"^(\S+)\n(\S+)\n(\S+)\n(\S+)\n\1\n\2\n"],
                at=Place.NODE_1,
            ),
            *(
                Step(
                    f"Another start of the agent with `--ipvs-scheduler={name}`.",
                    f"ipvsadm -Ln -t {vip(4)}:80 | grep TCP",
                    [rf"^TCP +{vip(4)}:80 {name}"],
                    at=Place.NODE_1,
                )
                for name in SCHEDULERS[1:]
            ),
        ],
    ),
)


def main() -> int:
    seen: dict[str, list[str]] = {}
    wrong = 0
    with (
        fabrics.running(Topology(nodes=2, servers=2, clients=1, outside=1)) as fabric,
        tempfile.TemporaryDirectory() as folder,
        closing(EchoServers()) as echo,
    ):
        shell = Shell({Place.NODE_1: fabric.nodes[0].space})
        for pod in fabric.pods:
            echo.start_pod(pod, protocols=["tcp"])
        for story, steps, scheduler in _parts():
            with served(fabric, Path(folder) / f"{story.number}-{scheduler}", scheduler):
                for played in play(Story(story.number, story.wants, steps), shell.run):
                    seen.setdefault(str(story.number), []).append(played.output)
                    wrong += bool(played.lacks)
                    sys.stderr.write(
                        f"W{story.number}: {played.step.types}\n{played.output}{'; '.join(played.lacks)}\n"
                    )
    Path(sys.argv[1]).write_text(json.dumps(seen))
    return 1 if wrong else 0


def _parts() -> Iterator[tuple[Story, Sequence[Step], str]]:
    """Which steps are played with which scheduler: all of W10 with the first, and each of W11 with its own."""
    ten, eleven = STORIES
    yield ten, ten.steps, SCHEDULERS[0]
    for step, scheduler in zip(eleven.steps, SCHEDULERS, strict=True):
        yield eleven, [step], scheduler


@contextmanager
def served(fabric: Fabric, folder: Path, scheduler: str) -> Iterator[None]:
    """Meanwhile control plane and agents run, in ipvs mode with this scheduler."""
    objects = folder / "objects"
    objects.mkdir(parents=True)
    made = manifests.service("web", [manifests.port(80, 8080, "p")], [vip(4)])
    parts = manifests.slices("web", fabric.pods, [manifests.slice_port(8080, "p")])
    manifests.write(objects / "all.yaml", *(manifests.node_object(node) for node in fabric.nodes), made, *parts)
    flags = ("--drain-period=0s", f"--ipvs-scheduler={scheduler}")
    with Deployment(fabric, folder, "--source=manifests", f"--manifests={objects}", agent_flags=flags) as line:
        for agent in line.agents.values():
            agent.mode = "ipvs"
        line.start(timeout=90)
        yield


if __name__ == "__main__":
    sys.exit(main())
