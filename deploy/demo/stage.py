"""The cluster of the demo: the network, echo servers in all pods, the product on a folder of manifests.

Called by `steps`. `change` writes a manifest and returns what every node's kernel did about it.
"""

from __future__ import annotations

import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from deltaplane.v1.inspection_pb2 import TailCommitsResponse
from tools.lab import fabric as fabrics
from tools.lab import manifests
from tools.lab.client import many
from tools.lab.deltaplane import Deployment, Tail
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Host, Node, Topology
from tools.lab.manifests import Object


@dataclass(frozen=True)
class Work:
    """What one change cost on one node. Times in milliseconds, from the file's event."""

    node: str
    elements: int
    messages: int
    size: int
    to_commit: float
    to_ack: float


class Stage:
    """Up while `built` is entered."""

    def __init__(self, fabric: Fabric, folder: Path) -> None:
        self.fabric = fabric
        self.manifests = folder / "manifests"
        self.manifests.mkdir()
        source = ("--source=manifests", f"--manifests={self.manifests}")
        self.echo = EchoServers()
        self.deployment = Deployment(fabric, folder / "logs", *source)
        self.tail: Tail
        self._changed = 0.0

    def start(self) -> None:
        """Pods answer, nodes are known, agents are up to date."""
        for pod in self.fabric.pods:
            self.echo.start_pod(pod)
        nodes = [manifests.node_object(node) for node in self.fabric.nodes]
        manifests.write(self.manifests / "nodes.yaml", *nodes)
        self.deployment.start()
        self.tail = self.deployment.controlplane.tail()
        self._changed = time.monotonic()

    def close(self) -> None:
        if hasattr(self, "tail"):
            self.tail.close()
        self.deployment.close()
        self.echo.close()

    def change(self, file: str, *documents: Object) -> list[Work]:
        """Writes the file and waits until every node has it in its kernel; what that took, by node."""
        self._rest()
        before = self.deployment.controlplane.head()
        manifests.write(self.manifests / file, *documents)
        head = self.deployment.wait_applied(after=before)
        names = set(self.deployment.names)
        commits = self.tail.wait(lambda seen: {c.node_name for c in seen if c.commit.to_rev >= head} >= names)
        self._changed = time.monotonic()
        mine = [commit for commit in commits if commit.commit.to_rev > before]
        return [work_of(name, [c for c in mine if c.node_name == name]) for name in sorted(names)]

    def _rest(self) -> None:
        """An agent that just acknowledged gathers acknowledgements for half a second: time a lone change."""
        time.sleep(max(0.0, self._changed + 0.7 - time.monotonic()))

    def requests(self, client: Host | Node, address: str, port: int, count: int) -> Counter[str]:
        """New TCP connections from there, counted by who answered."""
        return many(client.space, address, port, count)


def work_of(node: str, commits: list[TailCommitsResponse]) -> Work:
    """The commits of one change on one node, as one."""
    return Work(
        node,
        sum(c.commit.kernel_elements for c in commits),
        sum(c.commit.kernel_messages for c in commits),
        sum(c.commit.kernel_bytes for c in commits),
        max((c.event_to_commit_ns for c in commits), default=0) / 1e6,
        max((c.event_to_ack_ns for c in commits), default=0) / 1e6,
    )


@contextmanager
def built() -> Iterator[Stage]:
    """The network and the (not yet started) product; taken down whatever happens, a second Ctrl-C included."""
    with ExitStack() as undo:
        undo.callback(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))
        folder = Path(tempfile.mkdtemp(prefix="deltaplane-demo-"))
        undo.callback(shutil.rmtree, folder, ignore_errors=True)
        fabric = undo.enter_context(fabrics.running(Topology(outside=1)))
        stage = Stage(fabric, folder)
        undo.callback(stage.close)
        undo.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)
        yield stage
