"""Three replicas that follow one API server each, and agents on kernels of their own, all as processes."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import ip_address
from itertools import count
from pathlib import Path
from typing import Any

import grpc

from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from tests.faults.world import Part, Replica, until
from tests.waits.doors import Door
from tests.waits.objects import Objects, Place
from tools.lab import netns, rules
from tools.lab.deltaplane import LEAVE_THE_MACHINE
from tools.lab.netns import Namespace
from tools.lab.ports import free_port

REPLICAS = 3
MODES = ("nftables", "nftables", "iptables", "nftables")  # of each agent
FIRST_CLIENT = ip_address("10.128.0.1")
PACKETS = 64  # of three endpoints, one is missed once in 10^10 times
WITNESS = r"""
table ip waits {
  set seen {
    type ipv4_addr . inet_service . ipv4_addr . inet_service
    size 65535
    flags dynamic
  }
  chain out {
    type filter hook output priority 10
    ip daddr 10.1.0.0/16 meta l4proto udp \
      add @seen { ct original ip daddr . ct original proto-dst . ip daddr . udp dport }
  }
}
"""
SLOW = """
import os, time
from nodeagent.dataplane.reconciler import Reconciler as R
real = R.apply
def apply(self, *words, **more):
    while os.path.exists({file!r}):
        time.sleep(0.02)
    return real(self, *words, **more)
R.apply = apply
R.slow = property(lambda self: os.path.exists({file!r}))
"""  # a commit takes as long as the file is there, on the thread of commits that are slow
POISONED = """
from msgspec.structs import replace
from nodeagent.dataplane import widths
from nodeagent.dataplane.nftables.desired import Desired as D
widths.check = lambda entry: None
put = D.put
def wide(entry):
    at = entry.frontend
    if at.address[:3] != bytes((10, 96, {third})):
        return entry
    return replace(entry, frontend=at._replace(address=at.address * 2))
D.put = lambda self, service: put(self, replace(service, entries=tuple(map(wide, service.entries))))
"""  # an address of eight bytes comes to the kernel, which refuses it
LOCKED = "import os\nos.environ['XTABLES_LOCKFILE'] = {lock!r}\n"


class Plane(Replica):
    """A replica on a port of loopback. `number`: its place."""

    def __init__(self, folder: Path, number: int, ports: list[int], kubeconfig: str) -> None:
        self.number, self.port = number, ports[number]
        self.address = f"127.0.0.1:{self.port}"
        every = ",".join(f"127.0.0.1:{port}" for port in ports)
        words = (
            "controlplane", "--source=kubernetes", f"--kubeconfig={kubeconfig}", f"--listen={self.address}",
            f"--replicas={every}", "--insecure",
        )  # fmt: skip
        Part.__init__(self, f"r{number}", folder, words)
        options = [("grpc.max_reconnect_backoff_ms", 200), ("grpc.initial_reconnect_backoff_ms", 50)]
        self.channel = grpc.insecure_channel(self.address, options)
        self.inspect: Any = InspectionServiceStub(self.channel)

    def mine(self) -> set[str]:
        """The nodes that have an open stream here."""
        request = inspection.ListNodesRequest(this_replica=True)
        answer = self.inspect.ListNodes(request, timeout=5, wait_for_ready=True)
        return {one.node_name for one in answer.nodes if one.state != inspection.NODE_STATE_DISCONNECTED}


class Node(Part):
    """An agent, its namespace, and its doors to the replicas."""

    def __init__(self, folder: Path, number: int, mode: str, space: Namespace, doors: list[Door]) -> None:
        self.number, self.mode, self.doors, self.net = number, mode, doors, space
        self._clients = count()
        self.slow, self.lock = folder / f"slow{number}", folder / f"lock{number}"
        words = (
            "agent", f"--server={','.join(door.address for door in doors)}", f"--hostname-override=n{number}",
            f"--proxy-mode={mode}", f"--state-dir={folder}/state{number}", "--insecure", *LEAVE_THE_MACHINE,
        )  # fmt: skip
        super().__init__(f"n{number}", folder, words, space)
        self.before = SLOW.format(file=str(self.slow)) + LOCKED.format(lock=str(self.lock))
        if mode == "nftables":
            self.before += POISONED.format(third=200 + number)

    def forget(self) -> None:
        """What packets have met so far."""
        rules.nft(self.net, "flush", "set", "ip", "waits", "seen")

    def met(self) -> dict[Place, set[str]]:
        """Endpoints that packets have met since, by where they were sent."""
        found: dict[Place, set[str]] = {}
        for entry in json.loads(rules.nft(self.net, "-j", "list", "set", "ip", "waits", "seen"))["nftables"]:
            for element in entry.get("set", {}).get("elem", ()):
                vip, port, endpoint, _ = element["concat"]
                found.setdefault((vip, port), set()).add(endpoint)
        return found

    def send(self, places: Iterable[Place]) -> None:
        """New clients' packets: from an address that none had before, so that none is of a flow that was tracked."""
        with self.net.entered():
            for place in places:
                source = str(FIRST_CLIENT + next(self._clients))
                for _ in range(PACKETS):
                    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client, suppress(OSError):
                        client.bind((source, 0))
                        client.sendto(b"?", place)


class World:
    """All of it, running and in step."""

    def __init__(self, stack: ExitStack) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="dpw-"))
        stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.objects = Objects(self.folder, stack, REPLICAS)
        for number in range(len(MODES)):
            self.objects.put("nodes", _node(number))
        ports = [free_port() for _ in range(REPLICAS)]
        self.planes = [Plane(self.folder, n, ports, self.objects.servers[n].kubeconfig) for n in range(REPLICAS)]
        self.nodes = [self._node(stack, number, mode, ports) for number, mode in enumerate(MODES)]
        for plane in self.planes:
            stack.callback(plane.channel.close)
            stack.callback(plane.kill)

    def _node(self, stack: ExitStack, number: int, mode: str, ports: list[int]) -> Node:
        space = netns.create(f"dpw{number}")
        stack.callback(netns.delete, space)
        rules.run(space, "ip", "link", "set", "lo", "up")
        rules.run(space, "ip", "route", "add", "local", "10.0.0.0/8", "dev", "lo")
        rules.run(space, "nft", "-f", "-", stdin=WITNESS)
        space.sysctl({"netfilter/nf_conntrack_udp_timeout": 2})
        if mode == "iptables":
            rules.hint(space)  # the legacy programs, whose lock is a file
        doors = [Door(self.folder / f"d{number}-{place}", port) for place, port in enumerate(ports)]
        for door in doors:
            stack.callback(door.close)
        made = Node(self.folder, number, mode, space, doors)
        stack.callback(made.kill)
        return made

    def serve(self) -> None:
        """Starts the replicas."""
        for plane in self.planes:
            super(Replica, plane).start()
        until(lambda: all("serving" in plane.running.output() for plane in self.planes), "replicas that serve")

    def start(self) -> None:
        """Returns when every agent has a stream."""
        self.serve()
        for node in self.nodes:
            node.start()
        until(lambda: len(self.streams()) == len(self.nodes), self.state)

    def streams(self) -> dict[str, int]:
        """Which replica has each node's stream."""
        return {name: plane.number for plane in self.planes for name in plane.mine()}

    def state(self) -> str:
        """The ends of all logs, for a failure's text."""
        parts = [part for part in (*self.planes, *self.nodes) if part.process is not None]
        return "\n".join(f"--- {part.name}\n{part.process.tail(12)}" for part in parts if part.process)


def _node(number: int) -> dict[str, Any]:
    status = {"addresses": [{"type": "InternalIP", "address": f"192.0.2.{number + 1}"}]}
    return {"kind": "Node", "metadata": {"name": f"n{number}"}, "spec": {}, "status": status}


@contextmanager
def world() -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack)
