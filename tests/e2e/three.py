"""Three replicas with the readiness gate before a real API server, each by a way of its own on which a write can be
held. For end-to-end tests.
"""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import yaml

from deltaplane.v1 import inspection_pb2 as pb
from tests.e2e.conftest import Cluster
from tools.lab import apiserver
from tools.lab.apiserver import ApiServer
from tools.lab.client import until
from tools.lab.deltaplane import PORT, Agent, ControlPlane, Deployment
from tools.lab.netns import Namespace
from tools.lab.relay import _loop

LEASE = "/apis/coordination.k8s.io/v1/namespaces/deltaplane-system/leases/deltaplane-readiness-gate"
DOOR = 7443  # on a replica's loopback


class Way:
    """Plain HTTP in at port DOOR of a namespace's loopback, TLS out to the API server.

    A request that is caught stays here until `release`: it has left the program, and has not arrived.
    """

    def __init__(self, space: Namespace, api: ApiServer) -> None:
        self.caught = threading.Event()
        self._catch = b""
        self._go, self._api = asyncio.Event(), api
        self._carrying = set[asyncio.Task[None]]()
        self._context = ssl.create_default_context(cafile=str(api.certificate))
        listener = space.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", DOOR))
        self._server: asyncio.Server = self._soon(asyncio.start_server(self._carry, sock=listener))

    def _soon(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, _loop()).result(10)

    def catch(self, start: str) -> None:
        """Catches requests that begin so."""
        self._go = asyncio.Event()
        self.caught.clear()
        self._catch = start.encode()

    def release(self) -> None:
        """What was caught goes on; nothing else is caught."""
        self._catch = b""
        _loop().call_soon_threadsafe(self._go.set)

    def close(self) -> None:
        """Closes the door and whatever passes through it."""
        self._soon(self._end())

    async def _end(self) -> None:
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _carry(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._carrying.add(task)  # the loop itself keeps no task alive
        host, sinks = self._api.host, [back]
        sock = host.space.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, (host.v4, apiserver.PORT))
            far, on = await asyncio.open_connection(sock=sock, ssl=self._context, server_hostname=host.v4)
            sinks.append(on)
            async with asyncio.TaskGroup() as pumps:
                pumps.create_task(self._pump(near, on, out=True))
                pumps.create_task(self._pump(far, back, out=False))
        except* OSError:
            pass
        finally:
            for sink in sinks:
                sink.transport.abort()
            self._carrying.discard(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, out: bool) -> None:
        while data := await source.read(1 << 16):
            if out and self._catch and data.startswith(self._catch):
                go = self._go
                self.caught.set()
                await go.wait()
            sink.write(data)
            await sink.drain()
        raise ConnectionResetError  # one side has ended: both do


class Replica(ControlPlane):
    """One of the three. `identity`: by which its Lease names it."""

    way: Way

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    @property
    def identities(self) -> list[str]:
        """Each time that it has acquired the Lease."""
        return re.findall(r"lease acquired lease=deltaplane-readiness-gate holder=(\S+)", self.said)

    def gates(self, pod: str) -> int:
        """How often it has set this Pod's gate."""
        return len(re.findall(rf"gate set pod=default/{re.escape(pod)} ", self.said))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """It does not run meanwhile, as on a machine that is frozen."""
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.signal(signal.SIGCONT)


class Three(Deployment):
    """Three replicas that know each other, and an agent on each node that knows all of them."""

    def __init__(
        self, cluster: Cluster, folder: Path, kubeconfig: Path, *, flags: Sequence[str], agent_flags: Sequence[str]
    ) -> None:
        fabric, self.rest = cluster.fabric, cluster.api.admin
        self.fabric = fabric
        hosts = (fabric.controlplane, fabric.apiserver, fabric.outside[1])
        places = [f"{host.v4}:{PORT}" for host in hosts]
        common = ("--source=kubernetes", f"--kubeconfig={_by_door(kubeconfig, folder)}", *flags)
        common += (f"--replicas={','.join(places)}",)
        self.replicas = [
            Replica(host, folder, *common, f"--advertise={place}", name=f"plane-{number}")
            for number, (host, place) in enumerate(zip(hosts, places, strict=True))
        ]
        for replica in self.replicas:
            replica.way = Way(replica.host.space, cluster.api)
        self.controlplane = self.replicas[0]
        self.agents = {node.name: Agent(node, ",".join(places), folder, *agent_flags) for node in fabric.nodes}

    def start(self, timeout: float = 60.0) -> None:
        for replica in self.replicas:
            replica.start(timeout)
        for each in self.agents.values():
            each.start()
        self.settle()
        until(lambda: self.holder, timeout)

    @property
    def holder(self) -> Replica | None:
        """Who has the Lease, by the API server."""
        identity = self.rest.call("GET", LEASE)["spec"].get("holderIdentity")
        return next((each for each in self.replicas if identity and identity in each.identities[-1:]), None)

    def another(self, than: Replica) -> Replica:
        """Whoever holds the Lease after this one."""
        until(lambda: self.holder not in {None, than}, 90, what=lambda: than.said[-2000:])
        found = self.holder
        assert found is not None
        return found

    def follows(self, node: str) -> Replica:
        """The replica that has the node's stream."""
        found: list[Replica] = []

        def look() -> bool:
            for each in self.replicas:
                with suppress(grpc.RpcError):
                    status = each.nodes()[node]
                    if status.server_id == each.status().server_id and status.state != pb.NODE_STATE_DISCONNECTED:
                        found.append(each)
            return bool(found)

        until(look, 60)
        return found[-1]

    def settle(self, **_: Any) -> int:
        """Until every node has what the replicas have."""
        request = pb.WaitAppliedRequest(revision=pb.RevisionOf(), timeout_seconds=60)
        *_, last = self.controlplane.inspect.WaitApplied(request, timeout=90)
        assert last.applied, last
        return int(last.rev)

    def close(self) -> None:
        for each in self.agents.values():
            each.stop()
        for replica in self.replicas:
            replica.close()
            replica.way.close()


def _by_door(kubeconfig: Path, folder: Path) -> Path:
    """The same account, by the door on the replica's own loopback."""
    said = yaml.safe_load(kubeconfig.read_text())
    said["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{DOOR}"}
    made = folder / "door.kubeconfig"
    made.touch(mode=0o600)
    made.write_text(yaml.safe_dump(said))
    return made
