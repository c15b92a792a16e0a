"""A hundred thousand connections, none of which fails, whatever happens meanwhile to the parts."""

from __future__ import annotations

import io
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.traffic import Clients, Flow, Moving, thread
from tests.e2e.turmoil import Site, running
from tests.faults.world import until
from tools.lab import manifests
from tools.lab.manifests import port, slice_port
from tools.lab.rest import Rest
from tools.lab.rules import delete_tables

CONNECTIONS = 100_000
AWAY = 40.0  # seconds that a replica is paused, or cut off
RATE = 300.0  # connections a second, of each of two clients
CHANGES, WRITERS, SERVICES = 100.0, 4, 100  # a second, by so many threads, of so many other Services
OLD = "39f24ea"  # an agent of before, which shows a token to a replica that it believes by TLS
Record = Callable[[str, object], None]
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """The packages of another version; today's where the clone does not have it."""
    done = subprocess.run(["git", "archive", OLD], cwd=REPOSITORY, capture_output=True, check=False)
    if done.returncode != 0:
        return REPOSITORY
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(tmp_path / "old", filter="data")
    return tmp_path / "old"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.usefixtures("servers")
def test_no_connection_of_a_hundred_thousand_fails_whatever_happens_to_the_parts(
    cluster: Cluster, objects: Rest, tmp_path: Path, old: Path, record_property: Record
) -> None:
    delete_tables(node.space for node in cluster.fabric.nodes)
    pods = cluster.fabric.pods
    address = objects.apply(manifests.service("asked", [port(80, 8080)]))["spec"]["clusterIP"]
    for part in manifests.slices("asked", pods, [slice_port(8080)]):
        objects.apply(part)
    with running(cluster, tmp_path, old) as site, ExitStack() as stack:
        flows = [Flow(stack.enter_context(site.rest()), range(one, SERVICES, WRITERS), CHANGES / WRITERS)
                 for one in range(WRITERS)]  # fmt: skip
        for flow in flows:
            flow.prepare()
        until(lambda: site.differs() == "", site.differs)
        moving = Moving(stack.enter_context(site.rest()), cluster.fabric.nodes, address, pods[:4], pods[4:])
        notes = frozenset(pod.name for pod in moving.leaving)
        clients = [Clients(node.clients[0].space, address, RATE, notes) for node in cluster.fabric.nodes[:2]]
        began = time.monotonic()
        with ExitStack() as threads:
            for run in [one.run for one in clients] + [one.run for one in flows] + [moving.run]:
                threads.enter_context(thread(run))
            everything(site)
            until(lambda: sum(one.total for one in clients) >= CONNECTIONS, "a hundred thousand connections", 200)
            took = time.monotonic() - began
            made = sum(flow.made for flow in flows)
        until(lambda: site.differs() == "", site.differs, 60)
        said = figures(site, clients, moving) | {"seconds": round(took), "changes a second": round(made / took, 1)}
        for name, value in said.items():
            record_property(name, value)
        check(site, clients, moving)


def everything(site: Site) -> None:
    """All that happens, in about three minutes."""
    for replica in site.replicas:
        replica.kill()
        time.sleep(2)
        replica.restart()
    for replica in site.replicas:
        replica.stop()
        replica.restart()
    # The replica with most agents is paused first; then all of them are on the one that is cut off next.
    one, two, three = sorted(site.replicas, key=lambda replica: len(site.nodes(replica)), reverse=True)
    for paused, lost, hook, also in ((one, two, "input", site.cluster.api.restart),
                                     (two, three, "output", lambda: site.upgrade("node-1")),
                                     (three, one, "input", lambda: rotate(site))):  # fmt: skip
        begins = time.monotonic()
        paused.running.signal(signal.SIGSTOP)
        with lost.cut(hook):
            also()
            time.sleep(max(0.0, begins + AWAY - time.monotonic()))
        paused.running.signal(signal.SIGCONT)
        until(site.answers, "three replicas that answer")


def rotate(site: Site) -> None:
    with site.new_certificates():
        time.sleep(AWAY / 2)


def figures(site: Site, clients: list[Clients], moving: Moving) -> dict[str, object]:
    """What the clients and the agents saw."""
    return {
        "connections": sum(one.total for one in clients),
        "failed": sum(one.failed for one in clients),
        "longest connection in ms": round(1e3 * max(one.longest for one in clients)),
        "endpoints that left and came back": len(moving.gone),
        "seconds until all kernels had such a change, half of them": round(
            sorted(moving.took)[len(moving.took) // 2], 1
        ),
        "seconds at most": round(max(moving.took), 1),
        "streams of each agent": [agent.output().count("connected server=") for agent in site.agents.values()],
    }


def check(site: Site, clients: list[Clients], moving: Moving) -> None:
    pods = {pod.name for pod in site.cluster.fabric.pods}
    for one in clients:
        assert one.answers.keys() == pods, one.answers
        for name, since, ended in moving.gone:
            wrong = [at for at in one.of.get(name, []) if since <= at[0] and at[1] <= ended]
            assert not wrong, f"{name} has left at {since}, and was reached at {wrong}"
    parts = list(site.parts())
    assert all(part.running.running for part in parts)
    for part in parts:
        assert "Traceback" not in part.output(), part.output()[part.output().index("Traceback") - 500 :][:5000]
