"""(c): from an API write to the first connection through the new endpoint, beside kube-proxy on the same API server.

Called by `__main__`. Node 1 has the agent, node 2 kube-proxy; both follow one real API server and serve the same
Services; a client pod on each connects. One write changes one endpoint of one Service, the next write another's.
"""

from __future__ import annotations

import math
import random
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import machine
from bench.probe import Prober, Watch
from tools.lab import fabric as fabrics
from tools.lab import kubeproxy, parts
from tools.lab.apiserver import ApiServer
from tools.lab.deltaplane import Agent, ControlPlane
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Pod, Topology
from tools.lab.manifests import endpoint_slice, node_object, pod_endpoint, port, service, slice_port
from tools.lab.process import Process, ProcessFailed

SERVICES, ENDPOINTS = 1_000, 3
BASE = Path(__file__).parents[1] / "deploy" / "kustomize" / "base"
PATIENCE = 30.0  # seconds until a change counts as lost
START = 600.0  # seconds until a start counts as failed
SYNCED = dict.fromkeys(("nftables", "iptables"), "SyncProxyRules complete") | {"ipvs": "syncProxyRules complete"}
"""What kube-proxy logs, for each family, when everything is in the kernel."""
TALK = ("--v=2", "--vmodule=proxier=4")  # enough for that, and little more


@dataclass(frozen=True)
class Pace:
    """How the writes follow each other: `apart` seconds on average, times from `jitter` to 1 + (1 - jitter)."""

    title: str
    apart: float
    jitter: float
    changes: int


def paces(quick: bool) -> tuple[Pace, ...]:
    """Alone: kube-proxy's limit of one sync per second never delays it. Steady: it does, as in any rollout."""
    return (
        Pace("a change every 2 to 3 s", 2.5, 0.8, 8 if quick else 40),
        Pace("a change per second", 1.0, 0.5, 15 if quick else 100),
        Pace("5 changes per second", 0.2, 0.5, 40 if quick else 300),
    )


@dataclass(frozen=True)
class Setting:
    """What both proxies are to do: the mode, and how many Services with how many endpoints each."""

    mode: str = "nftables"
    services: int = SERVICES
    endpoints: int = ENDPOINTS


@dataclass(frozen=True)
class Start:
    """From a proxy's start on a clean node until it says that everything is in the kernel; seconds.

    `took` is infinite where it had not said so after `START`; its changes are not waited for then.
    """

    took: float
    cpu: float

    @property
    def ended(self) -> bool:
        return math.isfinite(self.took)


@dataclass
class Side:
    """One node's proxy and what it took, in seconds."""

    name: str
    process: Process
    prober: Prober
    took: list[float] = field(default_factory=list)
    cpu: float = 0.0  # during all the changes of a pace
    idle: float = 0.0  # CPU seconds per second without any change
    start: Start = Start(0.0, 0.0)


@dataclass(frozen=True)
class Measured:
    """The outcome of one pace."""

    pace: Pace
    agent: Side
    reference: Side
    controlplane_cpu: float
    seconds: float
    lost: int


class Scene:
    """The Services: every endpoint is a pod that refuses, until a change puts one that listens in its place.

    A Service is changed once at most, so that the whole run changes different ones.
    """

    def __init__(self, api: ApiServer, fabric: Fabric, setting: Setting) -> None:
        self._api, self._random, self._setting = api, random.Random(1), setting
        self._silent = [pod for node in fabric.nodes for pod in node.servers[:-1]]
        self.listening = [node.servers[-1] for node in fabric.nodes]
        self._addresses: list[str] = []
        self._unchanged = list(range(setting.services))
        self._random.shuffle(self._unchanged)

    def load(self) -> None:
        """Writes every Service and slice."""
        for number in range(self._setting.services):
            made = self._api.admin.create(service(f"service-{number}", [port(80, 8080, "http")]))
            self._addresses.append(made["spec"]["clusterIP"])
            endpoints = map(pod_endpoint, self._behind(number))
            self._api.admin.create(endpoint_slice(f"service-{number}", endpoints, [slice_port(8080, "http")]))

    def _behind(self, number: int) -> list[Pod]:
        return [self._silent[(number + n) % len(self._silent)] for n in range(self._setting.endpoints)]

    def change(self, probers: Sequence[Prober]) -> list[Watch]:
        """Writes one endpoint's replacement in one Service. The watches' time begins just before the write.

        They look once it was answered, so as not to be in its way: the API server tells its watchers not much sooner.
        """
        number = self._unchanged.pop()
        behind = self._behind(number)
        behind[self._random.randrange(self._setting.endpoints)] = self.listening[number % len(self.listening)]
        body = {"endpoints": [pod_endpoint(pod) for pod in behind]}
        since = time.perf_counter()
        self._api.admin.patch("EndpointSlice", f"service-{number}-v4", body, api="discovery.k8s.io/v1")
        return [prober.watch(self._addresses[number], 80, since) for prober in probers]


def measure(*, quick: bool = False) -> list[Measured]:
    """Builds everything, measures each pace, and takes it down."""
    with stage(Setting()) as (scene, controlplane, agent, reference):
        rest((agent, reference), 3.0 if quick else 20.0)
        return [run(pace, scene, controlplane, agent, reference) for pace in paces(quick)]


def reference_version() -> str:
    """What kube-proxy calls itself."""
    return subprocess.run(
        [parts.find("kube-proxy"), "--version"], capture_output=True, text=True, check=True
    ).stdout.strip()


@contextmanager
def stage(setting: Setting) -> Iterator[tuple[Scene, Process, Side, Side]]:
    """Everything is there and serving; the proxies were started one after the other, each alone."""
    with ExitStack() as stack:
        pods = max(3, -(-setting.endpoints // 2) + 1)  # on each of two nodes; one of them listens
        fabric = stack.enter_context(fabrics.running(Topology(nodes=2, servers=pods, clients=1, outside=0)))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="deltaplane-bench-")))
        servers = EchoServers()
        stack.callback(servers.close)
        api = ApiServer(fabric.apiserver, folder)
        stack.callback(api.close)
        api.start()
        scene = Scene(api, fabric, setting)
        for pod in scene.listening:
            servers.start_pod(pod, protocols=("tcp",))
        kubeconfig = admit(api, fabric)
        scene.load()
        controlplane = ControlPlane(fabric.controlplane, folder, "--source=kubernetes", f"--kubeconfig={kubeconfig}")
        stack.callback(controlplane.close)
        controlplane.start()
        agent = Agent(fabric.nodes[0], controlplane.address, folder)
        agent.mode = setting.mode
        stack.callback(agent.stop)
        began = time.perf_counter()
        ours = _started(agent.start(), began, "kernel has the whole state", 1)
        began = time.perf_counter()
        theirs = kubeproxy.start(fabric.nodes[1], api.admin_kubeconfig, folder, setting.mode, *TALK)
        stack.callback(theirs.stop)
        sides = _sides(fabric, ours, _started(theirs, began, SYNCED[setting.mode], 2), stack)
        for side, watch in zip(sides, scene.change([side.prober for side in sides]), strict=True):
            served = not side.start.ended or watch.over.wait(PATIENCE)
            assert served, f"{side.name} does not serve:\n{side.process.tail()}"
        assert controlplane.process
        yield scene, controlplane.process, *sides


def admit(api: ApiServer, fabric: Fabric) -> Path:
    """Nodes and roles; returns the kubeconfig of the control plane's own account."""
    for node in fabric.nodes:
        api.admin.apply_node(node_object(node))
    objects = api.kustomize(BASE)
    api.grant(objects)
    named = ("DaemonSet", "deltaplane-controlplane")
    workload = next(thing for thing in objects if (thing["kind"], thing["metadata"]["name"]) == named)
    account = workload["spec"]["template"]["spec"]["serviceAccountName"]
    return api.kubeconfig(account, workload["metadata"]["namespace"])


def _started(process: Process, began: float, text: str, times: int) -> tuple[Process, Start]:
    """Waits until it has logged that it is complete, `times` families. Raises `ProcessFailed` where it ended."""
    try:
        process.wait_until(lambda: process.output().count(text) >= times, START, f"logging {text!r}")
    except ProcessFailed:
        if not process.running:
            raise
        return process, Start(math.inf, machine.cpu_of_all(process.pid))
    took = time.perf_counter() - began
    time.sleep(1.0)  # what is left to do, such as writing the journal
    return process, Start(took, machine.cpu_of_all(process.pid))


def _sides(
    fabric: Fabric, ours: tuple[Process, Start], theirs: tuple[Process, Start], stack: ExitStack
) -> tuple[Side, Side]:
    probers = [Prober(node.clients[0].space) for node in fabric.nodes]
    for prober in probers:
        stack.callback(prober.close)
    return (
        Side("deltaplane agent", ours[0], probers[0], start=ours[1]),
        Side("kube-proxy", theirs[0], probers[1], start=theirs[1]),
    )


def rest(sides: Sequence[Side], seconds: float) -> None:
    """What they cost while nothing changes."""
    time.sleep(3.0)
    before = [machine.cpu_of_all(side.process.pid) for side in sides]
    time.sleep(seconds)
    for side, was in zip(sides, before, strict=True):
        side.idle = (machine.cpu_of_all(side.process.pid) - was) / seconds


def run(pace: Pace, scene: Scene, controlplane: Process, *sides: Side) -> Measured:
    """Writes at this pace, and waits for all of it."""
    fresh = [Side(side.name, side.process, side.prober, idle=side.idle, start=side.start) for side in sides]
    processes = [controlplane, *(side.process for side in sides)]
    time.sleep(2.5)
    before, started = [machine.cpu_of_all(process.pid) for process in processes], time.perf_counter()
    watches = _write(pace, scene, [side.prober for side in sides])
    lost = _collect(fresh, watches)
    time.sleep(1.5)  # what the last change still costs
    spent = [machine.cpu_of_all(process.pid) - was for process, was in zip(processes, before, strict=True)]
    for side, cost in zip(fresh, spent[1:], strict=True):
        side.cpu = cost
    return Measured(pace, fresh[0], fresh[1], spent[0], time.perf_counter() - started, lost)


def _write(pace: Pace, scene: Scene, probers: Sequence[Prober]) -> list[list[Watch]]:
    watches = []
    wait = threading.Event()
    due = time.perf_counter()
    for _ in range(pace.changes):
        wait.wait(max(0.0, due - time.perf_counter()))
        watches.append(scene.change(probers))
        due += pace.apart * random.uniform(pace.jitter, 2 - pace.jitter)
    return watches


def _collect(sides: Sequence[Side], watches: list[list[Watch]]) -> int:
    """Fills in the times; returns how many never came, of proxies that had started."""
    lost = 0
    for pair in watches:
        for side, watch in zip(sides, pair, strict=True):
            if not side.start.ended:
                continue
            if watch.over.wait(PATIENCE):
                side.took.append(watch.seen - watch.since)
            else:
                lost += 1
    return lost
