"""(e): one server and many streams: what a change, a join and a stream cost, and how soon all have what is new.

The server is a process of its own (`fanout_server`), the agents another (`fanout_agents`): real streams, the product's
session and client on both sides, no kernel. Costs are CPU time of the server's process; times are of both processes on
one machine, where the agents take about as much as the server.
"""

from __future__ import annotations

import contextlib
import resource
import socket
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from bench import machine
from bench.cluster import Changes, objects
from bench.fanout_commands import Child
from bench.report import quantile
from controlplane.deltas import Deltas
from controlplane.facts import Fact
from controlplane.log import Log
from controlplane.store import Store
from controlplane.stream_limits import Limits

SERVICES, ENDPOINTS = 1_000, 10
STREAMS = (100, 1_000, 2_000, 5_000)
FLOW = (1_000, 2_000)  # streams that are sent RATE changes per second
RATE = 100.0
PARTITION, LAGGING = 29_000, 64  # revisions; streams that lag, each by another number
SECURE = 1_000  # streams over TLS, and as many in plain text


class Size(Struct):
    """One number of streams. Times in seconds, memory in KiB; `change` are CPU seconds per change and stream."""

    streams: int
    join: float  # CPU seconds, with a snapshot
    stream_kib: float
    server_kib: float
    change: list[float]
    half: list[float]
    p99: list[float]
    all: list[float]
    again: float  # until all are back
    again_cpu: float  # for each
    again_bytes: float  # for each, both ways
    defects: int
    flow: Flow | None = None


class Flow(Struct):
    """A steady flow of changes."""

    core: float  # CPU seconds of the server per second
    agents_core: float
    lag: float  # seconds, of the agent that is last, at its worst
    ack_lag: float  # the same as the server knows it by Acks
    deltas: float  # per stream and second
    acks: float


class Merging(Struct):
    """LAGGING streams at the end of a partition, in seconds."""

    everything: float
    longest: float  # one message


class Secure(Struct):
    """CPU seconds per change and stream, in plain text and over TLS."""

    streams: int
    plain: list[float]
    tls: list[float]


class Found(Struct):
    sizes: list[Size]
    merging: Merging
    secure: Secure
    others: float  # share of the machine that others took


def measure(*, quick: bool = False) -> Found:
    """All sizes in turn."""
    others, own = machine.Others(), machine.own_cpu()
    sizes = [_size(streams, quick=quick) for streams in (STREAMS[:2] if quick else STREAMS)]
    merging = _merging(PARTITION // 10 if quick else PARTITION)
    secure = _secure(quick=quick)
    return Found(sizes, merging, secure, max(0.0, others.share(machine.own_cpu() - own)))


@contextmanager
def pair(*, tls: bool = False, folder: str = "") -> Iterator[tuple[Child, Child, str]]:
    """A server, agents that have not joined, and the server's address. `folder`: of the server's code; empty: this."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with contextlib.ExitStack() as ends:
        children = []
        files = ends.enter_context(tempfile.TemporaryDirectory()) if tls else ""
        shown = certificate(files) if tls else ()
        for module, given, code in (("bench.fanout_server", shown, folder), ("bench.fanout_agents", shown[:1], "")):
            children.append(Child(module, address, SERVICES, ENDPOINTS, *given, stderr=subprocess.DEVNULL, folder=code))
            ends.callback(children[-1].end)
        yield children[0], children[1], address


def certificate(folder: str) -> tuple[str, str]:
    """The files of a certificate for 127.0.0.1, which is its own CA, and of its key."""
    made = f"{folder}/server.pem", f"{folder}/server.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=bench"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-out", made[0], "-keyout", made[1])
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return made


def _secure(*, quick: bool) -> Secure:
    """Changes by turns to agents in plain text and to as many over TLS, so that other load is the same for both."""
    streams = SECURE // (10 if quick else 1)
    with pair() as (plain, plain_agents, _), pair(tls=True) as (secure, secure_agents, _):
        both = ((plain, plain_agents), (secure, secure_agents))
        for server, agents in both:
            interval = server.ask("expect", agents=streams)["interval"]
            agents.ask("join", number=streams)
        time.sleep(1.0)
        rounds = [[_change(server, streams, interval)[0] for server, _ in both] for _ in range(4 if quick else 12)]
    return Secure(streams, [one for one, _ in rounds], [other for _, other in rounds])


def _size(streams: int, *, quick: bool) -> Size:
    with pair() as (server, agents, _):
        before = server.ask("usage")
        interval = server.ask("expect", agents=streams)["interval"]
        agents.ask("join", number=streams)
        joined = server.ask("usage")
        time.sleep(1.0)
        changes = [_change(server, streams, interval) for _ in range(4 if quick else 12)]
        size = Size(
            streams,
            join=(joined["cpu"] - before["cpu"]) / streams,
            stream_kib=(server.ask("usage")["rss_kib"] - before["rss_kib"]) / streams,
            server_kib=0.0,
            change=[cpu for cpu, _ in changes],
            half=[took[streams // 2] for _, took in changes],
            p99=[quantile(took, 0.99) for _, took in changes],
            all=[took[-1] for _, took in changes],
            again=0.0,
            again_cpu=0.0,
            again_bytes=0.0,
            defects=0,
        )
        if streams in FLOW:
            size.flow = _flow(server, agents, streams, 5.0 if quick else 20.0)
        _again(server, agents, size)
        size.server_kib = server.ask("usage")["peak_kib"]
        size.defects = agents.ask("count")["defects"]
        return size


def _change(server: Child, streams: int, interval: float) -> tuple[float, list[float]]:
    """CPU seconds per stream, and when each stream had acknowledged. The Acks' interval passes before."""
    time.sleep(interval + 0.2)
    before = server.ask("usage")["cpu"]
    took = server.ask("change")["took"]
    return (server.ask("usage")["cpu"] - before) / streams, took


def _flow(server: Child, agents: Child, streams: int, seconds: float) -> Flow:
    before = agents.ask("count")
    agents.tell("watch", seconds=seconds - 0.5)
    flow = server.ask("flow", rate=RATE, seconds=seconds)
    samples = agents.answer()["samples"]
    after = agents.ask("count")
    took = flow["took"]
    per_stream = {name: (after[name] - before[name]) / streams / took for name in ("deltas", "acks")}
    return Flow(
        core=flow["cpu"] / took,
        agents_core=(after["cpu"] - before["cpu"]) / took,
        lag=max(_lag(at, rev, flow["emitted"]) for at, rev in samples),
        ack_lag=max(flow["lags"]),
        **per_stream,
    )


def _lag(at: float, rev: int, emitted: list[tuple[int, float]]) -> float:
    """How long the agent at `rev` lacked a revision at the time `at`."""
    missed = next((since for number, since in emitted if number > rev), at)
    return max(0.0, at - missed)


def _again(server: Child, agents: Child, size: Size) -> None:
    server.ask("change")  # all have the head then, and come back with an equal digest
    time.sleep(1.0)
    before, spent = agents.ask("count")["size"], server.ask("usage")["cpu"]
    began = server.ask("renew")
    there = agents.ask("following", epoch=began["epoch"])
    size.again = there["at"] - began["at"]
    size.again_cpu = (server.ask("usage")["cpu"] - spent) / size.streams
    size.again_bytes = (agents.ask("count")["size"] - before) / size.streams


def _merging(revisions: int) -> Merging:
    """CPU of what LAGGING streams are sent after `revisions` changes, each from another revision on."""
    store, log = Store(), Log()
    store.update([Fact(thing.key, thing) for thing in objects(SERVICES, ENDPOINTS)])
    log.begin(store.digest.value)
    changes = Changes(SERVICES, ENDPOINTS)
    for _ in range(revisions):
        made = store.update([changes.next()])
        log.append(made, digest=store.digest.value, versions=store.versions, now=0.0, unix_nano=0)
    took = []
    for number in range(LAGGING):
        stream = Deltas(log, Limits(window_deltas=revisions, window_bytes=1 << 40))
        stream.start(1 + number)
        while stream.sent_rev < log.head:
            began = time.process_time()
            stream.next(0)
            took.append(time.process_time() - began)
    return Merging(sum(took), max(took))


def median(values: list[float]) -> float:
    return statistics.median(values)
