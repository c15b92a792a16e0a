"""Real control planes and agents on a folder of manifests, a real kernel for each agent, and the four oracles.

Each agent has a network namespace of its own and reaches the replicas over unix sockets. Every address of the cluster
is local there, so that packets to a Service arrive at whatever endpoint the kernel chooses; a table of the test's own
notes which endpoints those were.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import grpc
import pytest

from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from tests.e2e import tables
from tools.lab import netns, rules
from tools.lab.deltaplane import COMMAND, LEAVE_THE_MACHINE
from tools.lab.netns import Namespace
from tools.lab.process import Process

LIMIT = 40.0  # seconds that anything may take on a busy machine
PORT = 80
ENDPOINTS = "10.1.0.0/16"
_ports = cycle(range(10_000, 65_000))  # of clients
WITNESS = f"""
table ip witness {{
  set seen {{ type ipv4_addr; size 65535; flags dynamic; }}
  chain out {{
    type filter hook output priority 0
    ip daddr {ENDPOINTS} add @seen {{ ip daddr }}
  }}
}}
"""
RUN = "import sys; from deltaplane.cli import main; sys.exit(main())"


class Part:
    """A program that may be started, stopped and killed again and again. `before`: Python that is run first."""

    def __init__(self, name: str, folder: Path, words: Sequence[str], space: Namespace | None = None) -> None:
        self.name, self.words, self.space = name, list(words), space
        self.before, self.code = "", Path(__file__).parents[2]  # what runs: a folder with the packages
        self._log = folder / f"{name}.log"
        self.process: Process | None = None

    def start(self) -> Process:
        command = list(COMMAND)
        if self.before or self.code != Path(__file__).parents[2]:
            command = [
                sys.executable,
                "-c",
                f"import sys; sys.path.insert(0, {str(self.code)!r})\n{self.before}\n{RUN}",
            ]
        self.process = Process(self.name, [*command, *self.words], self._log, self.space)
        return self.process

    def output(self) -> str:
        """What all its processes have logged so far."""
        return self._log.read_text(errors="replace")

    @property
    def running(self) -> Process:
        assert self.process is not None
        assert self.process.running, self.process.tail()
        return self.process

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    def stop(self) -> None:
        if self.process is not None:
            self.process.stop()


class Replica(Part):
    def __init__(self, name: str, folder: Path, manifests: Path, *flags: str) -> None:
        self.address = f"unix://{folder}/{name}"
        words = ("controlplane", "--source=manifests", f"--manifests={manifests}", f"--listen={self.address}")
        super().__init__(name, folder, (*words, "--insecure", *flags))
        self.channel = grpc.insecure_channel(self.address, [("grpc.max_reconnect_backoff_ms", 200)])
        self.inspect: Any = InspectionServiceStub(self.channel)

    def start(self) -> Process:
        """Returns when it serves, or has ended."""
        process = super().start()
        until(lambda: "serving" in process.output() or not process.running, "a replica that serves")
        return process

    def serving(self) -> bool:
        """Whether it has a whole state."""
        return "serving" in self.running.output()

    def status(self) -> inspection.GetStatusResponse:
        answer: inspection.GetStatusResponse = self.inspect.GetStatus(
            inspection.GetStatusRequest(), timeout=5, wait_for_ready=True
        )
        return answer

    def nodes(self) -> dict[str, inspection.NodeStatus]:
        """Those that have a stream here now."""
        answer = self.inspect.ListNodes(inspection.ListNodesRequest(), timeout=5, wait_for_ready=True)
        return {node.node_name: node for node in answer.nodes if node.state != inspection.NODE_STATE_DISCONNECTED}


class World:
    """`replicas` and `agents`; `truth`: endpoint addresses of each Service, by its number."""

    def __init__(self, stack: ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dpf-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self._stack = stack
        self.manifests = self.folder / "manifests"
        self.manifests.mkdir()
        self.replicas: list[Replica] = []
        self.agents: list[Part] = []
        self.truth: dict[int, list[str]] = {}
        self.vips: dict[int, str] = {}

    # ------------------------------------------------------------ parts

    def replica(self, *flags: str, before: str = "", start: bool = True) -> Replica:
        made = Replica(f"r{len(self.replicas)}", self.folder, self.manifests, *flags)
        made.before = before
        self._stack.callback(made.channel.close)
        self._stack.callback(made.kill)
        self.replicas.append(made)
        if start:
            made.start()
        return made

    def agent(self, *flags: str, name: str = "", servers: Sequence[str] = (), start: bool = True) -> Part:
        """In a namespace of its own; `name`: of the node."""
        number = len(self.agents)
        space = netns.create(f"dpf{number}")
        self._stack.callback(netns.delete, space)
        rules.run(space, "ip", "link", "set", "lo", "up")
        rules.run(space, "ip", "route", "add", "local", "10.0.0.0/8", "dev", "lo")
        rules.run(space, "nft", "-f", "-", stdin=WITNESS)
        servers = servers or [replica.address for replica in self.replicas]
        words = (
            "agent", f"--server={','.join(servers)}", "--insecure", f"--hostname-override={name or f'n{number}'}",
            f"--state-dir={self.folder}/state{number}", *LEAVE_THE_MACHINE, *(flags or ("--proxy-mode=nftables",)),
        )  # fmt: skip
        made = Part(f"a{number}", self.folder, words, space)
        self._stack.callback(made.kill)
        self.agents.append(made)
        if start:
            made.start()
        return made

    def witness(self, agent: Part) -> None:
        """Notes packets anew, after a flush of all rules."""
        assert agent.space is not None
        rules.run(agent.space, "nft", "-f", "-", stdin=WITNESS)

    # ------------------------------------------------------------ objects

    def put(self, number: int, endpoints: Sequence[str], vip: str = "", text: str = "") -> None:
        """A Service and its slice, in place at once."""
        self.truth[number] = list(endpoints)
        self.vips[number] = vip or self.vips.get(number) or f"10.96.{number >> 8}.{number & 255 or 255}"
        self.write(f"s{number}", text or service(number, self.vips[number]) + slice_of(number, endpoints))

    def write(self, name: str, text: str) -> None:
        fresh = self.folder / "new"
        fresh.write_text(text)
        fresh.rename(self.manifests / f"{name}.yaml")

    def remove(self, number: int) -> None:
        del self.truth[number], self.vips[number]
        (self.manifests / f"s{number}.yaml").unlink()

    # ------------------------------------------------------------ oracles

    def wanted(self) -> dict[str, frozenset[str]]:
        """What the objects mean, computed without the product: endpoint addresses by ClusterIP."""
        return {self.vips[number]: frozenset(endpoints) for number, endpoints in self.truth.items()}

    def kernel(self, agent: Part) -> dict[str, frozenset[str]]:
        """What stock nft reads."""
        assert agent.space is not None
        found = tables.read(agent.space)
        held = {key[1]: frozenset(ip for ip, _ in targets) for key, targets in found.endpoints.items()}
        return held | {key[1]: frozenset[str]() for key in found.refused}

    def settled(self, replicas: Sequence[Replica] = ()) -> bool:
        """Whether each replica that runs has the same state, and each agent its head in the kernel."""
        live = [one for one in replicas or self.replicas if one.process is not None and one.process.running]
        with suppress(grpc.RpcError):
            heads = {one.name: one.status() for one in live}
            applied = {
                name for one in live for name, node in one.nodes().items()
                if node.applied_rev == heads[one.name].head_rev and node.state == inspection.NODE_STATE_LIVE
            }  # fmt: skip
            counted = {status.counts.services for status in heads.values()} == {len(self.truth)}
            running = [agent for agent in self.agents if agent.process is not None and agent.process.running]
            names = {_flag(agent, "--hostname-override") for agent in running}
            return counted and len({status.digest for status in heads.values()}) == 1 and names <= applied
        return False

    def holds(self, replicas: Sequence[Replica] = ()) -> None:
        """The four oracles: (iv) while it waits, then (i) and (ii), then (iii) by packets."""
        wanted = self.wanted()
        agents = [agent for agent in self.agents if agent.process is not None and agent.process.running]
        until(lambda: self.settled(replicas) and all(self.has(one, wanted) for one in agents), self.state)
        for agent in agents:
            self.only_reaches(agent, wanted)
        failures = [one for one in self.parts() if "Traceback" in one.output()]
        assert not failures, failures[0].tail(40)

    def has(self, agent: Part, wanted: dict[str, frozenset[str]]) -> bool:
        """Whether the agent's kernel has exactly this."""
        try:
            return self.kernel(agent) == wanted
        except (RuntimeError, AssertionError):
            return False

    def parts(self) -> Iterator[Process]:
        for part in (*self.replicas, *self.agents):
            if part.process is not None:
                yield part.process

    def state(self) -> str:
        """What is wanted and what there is, for a failure's text."""
        lines = [f"wanted {self.wanted()}"]
        for agent in self.agents:
            with suppress(RuntimeError, AssertionError):
                lines.append(f"{agent.name} {self.kernel(agent)}")
        return "\n".join([*lines, *(part.tail() for part in self.parts())])[-6000:]

    def removed(self, number: int, endpoint: str) -> None:
        """Takes an endpoint away; the moment a node says that it has the change, no packet reaches that any more."""
        wanted = self.wanted()  # earlier changes are revisions of their own
        until(lambda: all(self.has(agent, wanted) for agent in self.agents), self.state)
        before = {one.name: one.status().head_rev for one in self.replicas if one.process and one.process.running}
        self.put(number, [one for one in self.truth[number] if one != endpoint])
        for agent in self.agents:
            until(partial(self._passed, _flag(agent, "--hostname-override"), before), self.state)
            assert endpoint not in self.reached(agent, number)

    def _passed(self, name: str, before: dict[str, int]) -> bool:
        live = [one for one in self.replicas if one.name in before]
        return any(
            name in nodes and nodes[name].applied_rev > before[one.name] for one in live for nodes in [one.nodes()]
        )

    def reached(self, agent: Part, number: int, packets: int = 64) -> set[str]:
        """Endpoints that new clients' packets to this Service go to; of three, one is missed once in 10^10 times.

        Each from a port of its own: a flow that is tracked keeps its endpoint until it is deleted, which the agent does
        after it has said that it has the change.
        """
        assert agent.space is not None
        rules.nft(agent.space, "flush", "set", "ip", "witness", "seen")
        for own in islice(_ports, packets):
            with agent.space.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, suppress(OSError):
                client.bind(("", own))
                client.sendto(b"?", (self.vips[number], PORT))
        listed = rules.nft(agent.space, "list", "set", "ip", "witness", "seen")
        return {word for word in listed.replace(",", " ").split() if word.startswith("10.1.")}

    def only_reaches(self, agent: Part, wanted: dict[str, frozenset[str]]) -> None:
        """(iii) of up to three Services."""
        for number in sorted(self.truth)[:3]:
            reached = self.reached(agent, number)
            assert reached <= wanted[self.vips[number]]
            assert bool(reached) == bool(wanted[self.vips[number]])


def _flag(part: Part, name: str) -> str:
    return next(word.partition("=")[2] for word in part.words if word.startswith(f"{name}="))


def until(true: Callable[[], bool], what: str | Callable[[], str] = "it", limit: float = LIMIT) -> None:
    """Waits until it is so."""
    end = time.monotonic() + limit
    while not true():
        assert time.monotonic() < end, what() if callable(what) else f"no {what} within {limit:g} s"
        time.sleep(0.05)


def service(number: int, vip: str) -> str:
    return (
        f"---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n"
        f"spec: {{clusterIP: {vip}, ports: [{{port: {PORT}, protocol: UDP}}]}}\n"
    )


def slice_of(number: int, endpoints: Sequence[str], name: str = "a") -> str:
    listed = ", ".join(f"{{addresses: [{one}]}}" for one in endpoints)
    return (
        f"---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n"
        f"metadata: {{name: s{number}-{name}, labels: {{kubernetes.io/service-name: s{number}}}}}\n"
        f"ports: [{{port: 8080, protocol: UDP}}]\nendpoints: [{listed}]\n"
    )


def address(number: int) -> str:
    """An endpoint's."""
    return f"10.1.{number >> 8}.{number & 255 or 255}"


@contextmanager
def world() -> Iterator[World]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("network namespaces need root on Linux")
    with ExitStack() as stack:
        yield World(stack)
