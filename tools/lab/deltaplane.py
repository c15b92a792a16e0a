"""The product in the laboratory: a control plane on its host and agents on nodes, as real processes.

Called by tests, demo and benchmark. What they say of themselves is asked over gRPC (`InspectionService`) through a
relay. A restart keeps name, folder and log; how a program ends (`stop` or `kill`) is the caller's choice.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import grpc

from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from tools.lab.fabric import CLUSTER_CIDRS, Fabric, Host, Node
from tools.lab.process import Process, ProcessFailed
from tools.lab.relay import Relay

PORT = 50051
COMMAND = (sys.executable, "-c", "import sys; from deltaplane.cli import main; sys.exit(main())")


class ControlPlane:
    """`deltaplane controlplane` on `host`. `flags` say the source; --listen and --insecure are added."""

    def __init__(self, host: Host, folder: Path, *flags: str, name: str = "controlplane") -> None:
        self.host, self.name, self.log = host, name, folder / f"{name}.log"
        listen = (f"--listen=0.0.0.0:{PORT}", "--insecure")
        self._command = [*COMMAND, "controlplane", *flags, *listen]
        self.process: Process | None = None
        self.relay = Relay(host.space, host.v4, PORT)
        # A short back-off: after a restart the next question shall be answered, not the one after the next.
        options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
        self._channel = grpc.insecure_channel(self.relay.target, options=options)
        # The generated stub is written for both kinds of channel.
        self.inspect: Any = InspectionServiceStub(self._channel)

    @property
    def address(self) -> str:
        """HOST:PORT as nodes reach it."""
        return f"{self.host.v4}:{PORT}"

    def start(self, timeout: float = 30.0) -> None:
        """Returns when it answers questions about itself."""
        self.process = Process(self.name, self._command, self.log, self.host.space)
        self.process.wait_until(self._answers, timeout, "answering GetStatus")

    def _answers(self) -> bool:
        with contextlib.suppress(grpc.RpcError):
            self.status()
            return True
        return False

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def wait_ready(self, timeout: float = 30.0) -> None:
        """Until it has the whole state, and agents are served. Raises `ProcessFailed`, `grpc.RpcError`."""
        assert self.process, "start it first"
        self.process.wait_until(lambda: self.status().ready, timeout, "having the whole state")

    def status(self) -> inspection.GetStatusResponse:
        """Epoch, head revision and counts. Raises `grpc.RpcError`."""
        answer: inspection.GetStatusResponse = self.inspect.GetStatus(inspection.GetStatusRequest(), timeout=2)
        return answer

    def head(self) -> int:
        """The newest revision."""
        return self.status().head_rev

    def nodes(self) -> dict[str, inspection.NodeStatus]:
        """What is known of each node's agent, by node name."""
        answer: inspection.ListNodesResponse = self.inspect.ListNodes(inspection.ListNodesRequest(), timeout=2)
        return {node.node_name: node for node in answer.nodes}

    def wait_applied(
        self, names: Sequence[str], *, after: int = -1, timeout: float = 40.0, alive: Callable[[], object] = bool
    ) -> int:
        """Until the head is newer than `after` and all these nodes have it in their kernel; returns the head.

        A change on its way from the source is not yet in the head: pass the head from before the change as `after`,
        or use `Deployment.change`. `alive` is called between two looks, to raise when waiting has no more sense.
        """
        deadline = time.monotonic() + timeout
        said = "nothing"
        while time.monotonic() < deadline:
            with contextlib.suppress(grpc.RpcError):
                head, nodes = self.head(), self.nodes()
                behind = [name for name in names if name not in nodes or not self._has(nodes[name], head)]
                if head > after and not behind:
                    return head
                said = f"head {head} (want > {after}), behind: {behind or 'none'}\n{nodes}"
            alive()
            time.sleep(0.03)
        tail = self.process.tail() if self.process else ""
        raise ProcessFailed(f"not applied within {timeout:g} s: {said}\n{self.name}:\n{tail}")

    @staticmethod
    def _has(node: inspection.NodeStatus, head: int) -> bool:
        return node.applied_rev >= head and node.state == inspection.NODE_STATE_LIVE

    def tail(self) -> Tail:
        """Starts collecting commits as they are acknowledged."""
        return Tail(self.inspect)

    def stop(self) -> None:
        """Politely; `start` starts it again."""
        if self.process:
            self.process.stop()

    def kill(self) -> None:
        """As a crash."""
        if self.process:
            self.process.kill()

    def close(self) -> None:
        """For good: also the channel and the relay."""
        self._channel.close()
        self.stop()
        self.relay.close()


class Tail:
    """Commits as the control plane reports them (TailCommits), collected by a thread until `close`."""

    def __init__(self, inspect: Any) -> None:
        self.commits: list[inspection.TailCommitsResponse] = []
        self._stream = inspect.TailCommits(inspection.TailCommitsRequest())
        self._news = threading.Condition()
        self._thread = threading.Thread(target=self._collect, name="tail", daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            for commit in self._stream:
                with self._news:
                    self.commits.append(commit)
                    self._news.notify_all()

    def wait(
        self, enough: Callable[[list[inspection.TailCommitsResponse]], bool], timeout: float = 5.0
    ) -> list[inspection.TailCommitsResponse]:
        """Takes what was collected since the last call once that is `enough`, or all there is when time is up."""
        with self._news:
            self._news.wait_for(lambda: enough(self.commits), timeout)
            taken, self.commits = self.commits, []
            return taken

    def close(self) -> None:
        """Ends the stream."""
        self._stream.cancel()
        self._thread.join(5)


LEAVE_THE_MACHINE = (  # settings of connection tracking and memory are the whole machine's, not the namespace's
    "--conntrack-max-per-core=0", "--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0",
    "--oom-score-adj=0",
)  # fmt: skip


class Agent:
    """`deltaplane agent` on a node; its state folder survives restarts."""

    def __init__(self, node: Node, server: str, folder: Path, *flags: str) -> None:
        self.node, self.name, self.log = node, f"agent-{node.name}", folder / f"agent-{node.name}.log"
        self.state = folder / f"state-{node.name}"
        self.state.mkdir(parents=True, exist_ok=True)
        self.mode = "nftables"  # from the next start on
        self._command = [
            *COMMAND, "agent", f"--server={server}", "--insecure", f"--hostname-override={node.name}",
            f"--cluster-cidr={','.join(CLUSTER_CIDRS)}", f"--state-dir={self.state}", *LEAVE_THE_MACHINE, *flags,
        ]  # fmt: skip
        self.process: Process | None = None

    def start(self) -> Process:
        """Starts it; whether it is up to date the control plane knows (`wait_applied`)."""
        command = [*self._command, f"--proxy-mode={self.mode}"]
        self.process = Process(self.name, command, self.log, self.node.space)
        return self.process

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.running

    def change(self, mode: str) -> Process | None:
        """Asks it to end, and starts it in another mode at once; gives the old one, which may be ending still."""
        old, self.mode = self.process, mode
        if old:
            old.signal(signal.SIGTERM)
        self.start()
        return old

    def stop(self) -> None:
        """Politely; the rules stay."""
        if self.process:
            self.process.stop()

    def kill(self) -> None:
        """As a crash; the rules stay."""
        if self.process:
            self.process.kill()


class Deployment:
    """A control plane and an agent on every node of the fabric."""

    def __init__(self, fabric: Fabric, folder: Path, *source: str, agent_flags: Sequence[str] = ()) -> None:
        self.fabric = fabric
        self.controlplane = ControlPlane(fabric.controlplane, folder, *source)
        address = self.controlplane.address
        self.agents = {node.name: Agent(node, address, folder, *agent_flags) for node in fabric.nodes}

    @property
    def names(self) -> list[str]:
        """The nodes that have an agent."""
        return list(self.agents)

    def start(self, timeout: float = 30.0) -> None:
        """Returns when every agent has the control plane's state in its kernel."""
        self.controlplane.start(timeout)
        for agent in self.agents.values():
            agent.start()
        self.wait_applied(timeout=timeout)

    def restore(self) -> None:
        """Starts what has ended; nothing where all of it runs."""
        if not self.controlplane.running:
            self.controlplane.start()
        for agent in self.agents.values():
            if not agent.running:
                agent.start()
        self.wait_applied(timeout=60)

    def wait_applied(self, *, after: int = -1, timeout: float = 40.0) -> int:
        """See `ControlPlane.wait_applied`; an agent that ended by itself is an early failure."""
        try:
            return self.controlplane.wait_applied(self.names, after=after, timeout=timeout, alive=self._all_alive)
        except ProcessFailed as failure:
            raise ProcessFailed(f"{failure}\n{self.complaints()}") from failure

    @contextmanager
    def change(self, timeout: float = 40.0, quiet: float = 0.15) -> Iterator[None]:
        """Whatever is written inside has reached every node's kernel at the end. It must change something.

        Several objects come as several events: it is the end when the head has not moved for `quiet` seconds.
        """
        before = self.controlplane.head()
        yield
        self.settle(after=before, timeout=timeout, quiet=quiet)

    def settle(self, *, after: int = -1, timeout: float = 40.0, quiet: float = 0.15) -> int:
        """Until every node has the head and no newer one came for `quiet` seconds; returns it."""
        head = self.wait_applied(after=after, timeout=timeout)
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            time.sleep(quiet)
            now = self.wait_applied(timeout=timeout)
            if now == head:
                break
            head = now
        return head

    def _all_alive(self) -> None:
        ended = [agent.name for agent in self.agents.values() if agent.process and agent.process.exit_code is not None]
        if ended:
            raise ProcessFailed(f"ended: {', '.join(ended)}")

    def complaints(self) -> str:
        """The tails of the agents' logs."""
        started = [agent.process for agent in self.agents.values() if agent.process]
        return "\n".join(f"{process.name} (exit {process.exit_code}):\n{process.tail(8)}" for process in started)

    def close(self) -> None:
        """Ends all of it; rules stay in the nodes' kernels."""
        for agent in self.agents.values():
            agent.stop()
        self.controlplane.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
