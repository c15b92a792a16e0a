"""Nobody notices a restart: clients keep being served while each part is killed, and nothing is written needlessly."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

import grpc
import pytest

from deltaplane.v1 import inspection_pb2 as inspection
from tests.e2e import tables
from tests.e2e.conftest import Cluster
from tests.e2e.shop import LIMIT, Shop
from tools.lab import memory
from tools.lab.client import Knocking, knocking, until
from tools.lab.deltaplane import COMMAND, Agent, ControlPlane
from tools.lab.rules import run

FROZEN = 90.0  # seconds for what takes 40: half a minute of silence, and a request that is not answered
SCRAPE = ("curl", "-s", "-m", "2", "http://127.0.0.1:10249/metrics", "http://127.0.0.1:10256/healthz")
AROUND = 40  # answers that every client has before and after


@dataclass(frozen=True)
class Clients:
    """Loops over both families and protocols, with new connections and with one that stays open."""

    loops: dict[str, Knocking]

    def more(self, count: int = AROUND) -> None:
        """Until each has been served this often again."""
        before = {name: seen.total for name, seen in self.loops.items()}
        until(lambda: all(seen.total >= before[name] + count for name, seen in self.loops.items()), LIMIT)

    @property
    def failures(self) -> dict[str, list[str]]:
        return {
            name: [f"{at} s: {how}" for at, how in one.failures] for name, one in self.loops.items() if one.failures
        }


@contextmanager
def busy(shop: Shop, *, moved: bool = False) -> Iterator[Clients]:
    """Clients that knock meanwhile, on the ClusterIPs from a pod and on a node port from outside. None may fail.

    `moved`: endpoints go meanwhile. Their UDP clients move when the tracked flow is deleted, and an answer that is
    under way just then comes from an address that the client does not ask: each may miss one.
    """
    made = shop.rest.get("Service", "my-service")
    addresses, numbers = made["spec"]["clusterIPs"], [one["nodePort"] for one in made["spec"]["ports"]]
    pod, outside, node = shop.clients["pod"], shop.clients["outside"], shop.fabric.nodes[1]
    loops: dict[str, Knocking] = {}
    with ExitStack() as stack:
        for number, (family, address) in enumerate(zip((4, 6), addresses, strict=True)):
            for protocol, node_port in zip(("tcp", "udp"), numbers, strict=True):
                # Two loops with new connections per family (the other protocol's go to the node port), four that stay.
                space, at, port = (pod, address, 80) if number else (outside, node.address(family), node_port)
                fresh = knocking(space, at, port, protocol, pause=0.02)
                loops[f"new {protocol} {at}"] = stack.enter_context(fresh)
                kept = knocking(pod, address, 80, protocol, pause=0.02, keep=True)
                loops[f"open {protocol} {address}"] = stack.enter_context(kept)
        clients = Clients(loops)
        clients.more()
        yield clients
        clients.more()
    failures = clients.failures
    excused = {name for name, how in failures.items() if moved and name.startswith("open udp") and len(how) == 1}
    assert failures.keys() <= excused, failures


@pytest.fixture
def served(shop: Shop) -> Shop:
    """A Service of both families and protocols with a node port and endpoints on every node, another without any."""
    shop.open(kind="NodePort")
    shop.open("empty")
    shop.endpoints(shop.fabric.pods)
    shop.settle()
    return shop


def everything(shop: Shop) -> dict[tuple[str, int], str]:
    """What nft lists on every node, with all handles: a table, chain or rule made anew would have another one.

    Left out is what packets write into sets.
    """
    shop.settle()
    return {
        (node.name, family): json.dumps(tables.steady(node.space, family), sort_keys=True)
        for node in shop.fabric.nodes
        for family in tables.FAMILIES
    }


def generations(shop: Shop) -> dict[str, int]:
    """The number of the last transaction in each node's kernel, whoever made it."""
    return {node.name: tables.generation(node.space) for node in shop.fabric.nodes}


def elements_on_adoption(agent: Agent) -> int:
    """What the agent's own report of its first complete commit says it wrote."""
    assert agent.process is not None
    pattern = r"kernel has the whole state .*elements=(\d+)"
    agent.process.wait_log(pattern)
    found = re.search(pattern, agent.process.output())
    assert found is not None
    return int(found[1])


@contextmanager
def commits(shop: Shop) -> Iterator[list[inspection.TailCommitsResponse]]:
    """Filled at the end with what was acknowledged of the revisions made meanwhile."""
    head, tail = shop.line.controlplane.head(), shop.line.controlplane.tail()
    found: list[inspection.TailCommitsResponse] = []
    try:
        yield found
        shop.line.wait_applied()
        found += [one for one in tail.wait(lambda _: False, 0.6) if one.commit.to_rev > head]
    finally:
        tail.close()


def write_one_change(shop: Shop) -> None:
    """After a restart the line carries changes as before."""
    shop.endpoints(shop.fabric.pods[1:])
    shop.settle()


def test_a_control_plane_killed_and_restarted(served: Shop) -> None:
    before, generation = everything(served), generations(served)
    plane = served.line.controlplane
    with busy(served) as clients:
        plane.kill()
        clients.more()
        plane.start()
        served.line.wait_applied(timeout=60)
        clients.more()
    assert everything(served) == before
    assert generations(served) == generation
    write_one_change(served)


def test_a_change_made_while_the_control_plane_is_down_is_the_only_one_written(served: Shop) -> None:
    generation, plane = generations(served), served.line.controlplane
    with busy(served, moved=True):
        plane.kill()
        served.endpoints(served.fabric.pods[:5])
        plane.start()
        served.line.wait_applied(timeout=60)
        served.settle()
    # One transaction for the whole difference, as it comes in one snapshot.
    assert generations(served) == {name: number + 1 for name, number in generation.items()}


def test_agents_killed_and_restarted(served: Shop) -> None:
    before, generation = everything(served), generations(served)
    with busy(served) as clients:
        for agent in served.line.agents.values():
            agent.kill()
        clients.more()
        for agent in served.line.agents.values():
            agent.start()
        served.line.wait_applied(timeout=60)
        clients.more()
    assert [elements_on_adoption(agent) for agent in served.line.agents.values()] == [0, 0, 0]
    assert everything(served) == before
    assert generations(served) == generation
    write_one_change(served)


def asked(plane: ControlPlane) -> None:
    """Every question of its state, whether it is answered or not."""
    for _ in range(100):
        with suppress(grpc.RpcError):
            plane.inspect.ListObjects(inspection.ListObjectsRequest(), timeout=1.0)


@pytest.mark.skipif(bool(memory.lacking()), reason=memory.lacking())
def test_programs_that_the_kernel_kills_for_their_memory(served: Shop) -> None:
    """As where their Pods reach the limit: agents and the control plane, one after the other."""
    before, generation = everything(served), generations(served)
    line = served.line
    with busy(served) as clients:
        for agent in line.agents.values():
            assert agent.process is not None
            memory.kill(agent.process, lambda space=agent.node.space: run(space, *SCRAPE, check=False))  # type: ignore[misc]
        assert line.controlplane.process is not None
        memory.kill(line.controlplane.process, lambda: asked(line.controlplane))
        clients.more()
        line.controlplane.start()
        for agent in line.agents.values():
            agent.start()
        line.wait_applied(timeout=60)
        clients.more()
    assert [elements_on_adoption(agent) for agent in line.agents.values()] == [0, 0, 0]
    assert everything(served) == before
    assert generations(served) == generation
    write_one_change(served)


def test_agents_without_their_state_folder_adopt_the_kernel_too(served: Shop) -> None:
    before, generation = everything(served), generations(served)
    agent = served.line.agents["node-2"]
    agent.kill()
    for file in agent.state.iterdir():
        file.unlink()
    agent.start()
    served.line.wait_applied(timeout=60)
    assert elements_on_adoption(agent) == 0
    assert everything(served) == before
    assert generations(served) == generation


def test_an_agent_stopped_politely_leaves_the_rules(served: Shop) -> None:
    before = everything(served)
    agent = served.line.agents["node-1"]
    with busy(served):
        agent.stop()
        assert agent.process is not None
        assert agent.process.exit_code == 0
        assert everything(served) == before
        agent.start()
        served.line.wait_applied(timeout=60)


def test_what_changed_while_an_agent_was_dead_is_all_it_writes(served: Shop) -> None:
    node = served.fabric.nodes[2]
    agent = served.line.agents[node.name]
    with busy(served, moved=True), commits(served) as made:
        agent.kill()
        generation = tables.generation(node.space)
        served.endpoints(served.fabric.pods[:5])
        agent.start()
        served.line.wait_applied(timeout=60)
        served.settle()
    # The sixth endpoint goes from a ClusterIP and a node port, by family and protocol; on its own node with its loop.
    written = sum(one.commit.kernel_elements for one in made if one.node_name == node.name)
    assert written == 12
    assert tables.generation(node.space) - generation <= 2


@pytest.mark.parametrize("compacted", [False, True], ids=["remembers", "has forgotten (410)"])
def test_an_api_server_restarted(served: Shop, cluster: Cluster, compacted: bool) -> None:
    before = everything(served)
    with commits(served) as made, busy(served) as clients:
        if compacted:
            cluster.api.compact()
        cluster.api.restart()
        clients.more()
        until(lambda: everything(served) == before, LIMIT, what="the state of before the restart")
    # An API server writes its own Service's endpoints when it stops and starts; nothing else is written.
    causes = {(one.object.namespace, one.object.name) for commit in made for one in commit.causes}
    assert causes <= {("default", "kubernetes")}
    write_one_change(served)


def followed(plane: ControlPlane) -> set[str]:
    """The resources that it says to follow now."""
    return {one.resource for one in plane.status().sources if one.following}


def operator(plane: ControlPlane, verb: str) -> str:
    """What the operator's command says, in one line."""
    where = (f"--server={plane.relay.target}", "--insecure")
    return " ".join(
        subprocess.run([*COMMAND, verb, *where], capture_output=True, text=True, check=False).stdout.split()
    )


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_frozen_api_server_is_told_and_what_changes_after_it_follows(served: Shop, cluster: Cluster) -> None:
    """Its process stands still with all connections open, so that no watch ends by itself."""
    plane, api = served.line.controlplane, cluster.api.process
    assert plane.process is not None
    assert api is not None
    before, kinds = everything(served), followed(plane)
    with busy(served) as clients:
        api.signal(signal.SIGSTOP)
        try:
            until(lambda: not followed(plane), FROZEN, 0.5, what=lambda: f"nothing is followed: {followed(plane)}")
            said = {verb: operator(plane, verb) for verb in ("status", "nodes")}
            clients.more()
        finally:
            api.signal(signal.SIGCONT)
        until(lambda: followed(plane) == kinds, LIMIT, 0.5, what="all is followed again")
    for told in said.values():
        assert re.search(r"servicecidrs\S* have not been followed for [\d.]+s, so changes do not arrive", told), told
        assert "did not answer within 10 s. Mend what this names (the API server" in told, told
        assert "takes no agents" not in told, told  # no replica is better off
    assert "not been followed" not in operator(plane, "status")
    plane.process.wait_log("watches are silent and the API server does not answer")
    assert everything(served) == before
    write_one_change(served)
