"""The readiness gate and /drain while one of three replicas is killed, stopped, or stands still amid a write.

One replica at a time writes; no Pod stays without its condition, and none gets it before every node sends to the Pod.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.draining import Gated, asking, kubeconfig, leave, stopped
from tests.e2e.shop import SLICE_PORTS, Shop, names, reached
from tests.e2e.three import Replica, Three
from tools.lab import manifests
from tools.lab.client import until
from tools.lab.echo import EchoServers
from tools.lab.rest import Rest
from tools.lab.rules import delete_tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ENDS: dict[str, Callable[[Replica], None]] = {"killed": Replica.kill, "stopped": Replica.stop}


@pytest.fixture(scope="module")
def three(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Three]:
    folder, spaces = tmp_path_factory.mktemp("three"), [node.space for node in cluster.fabric.nodes]
    delete_tables(spaces)
    flags = ("--readiness-gate", "--readiness-gate-timeout=120")
    agent = ("--drain-listen=0.0.0.0", "--drain-timeout=60s")
    with Three(cluster, folder, kubeconfig(cluster, folder), flags=flags, agent_flags=agent) as made:
        made.start()
        yield made
    delete_tables(spaces)


@pytest.fixture
def shop(cluster: Cluster, objects: Rest, three: Three, servers: EchoServers) -> Iterator[Shop]:
    shop = Shop(objects, three, cluster.fabric)
    shop.sell()
    yield shop
    cluster.delete_services()


@contextmanager
def gated(shop: Shop, *pods_names: str) -> Iterator[list[Gated]]:
    """So many of the last Pods; their endpoints are not ready, since their gates are not."""
    pods = shop.fabric.pods[-len(pods_names) :]
    for part in manifests.slices("my-service", shop.fabric.pods, SLICE_PORTS, unready=pods):
        shop.rest.apply(part)
    made = [Gated(shop, pod, name) for pod, name in zip(pods, pods_names, strict=True)]
    try:
        yield made
    finally:
        for each in made:
            each.close()


def holder(three: Three) -> Replica:
    """Who has the Lease, by the process that runs now: the Lease may still be of one that was killed."""
    until(lambda: acquired(three.holder), 90)
    found = three.holder
    assert found is not None
    return found


def acquired(replica: Replica | None) -> bool:
    return replica is not None and "lease acquired" in replica.said.rpartition("controlplane.app: started")[2]


def set_once(three: Three, each: Gated) -> None:
    """One replica has written it, once."""
    assert sum(replica.gates(each.name) for replica in three.replicas) == 1
    assert each.gate["reason"] == "Programmed"


@pytest.mark.parametrize("how", ENDS)
def test_another_replica_goes_on_with_a_pod_whose_gate_was_waited_for(three: Three, shop: Shop, how: str) -> None:
    address = shop.rest.get("Service", "my-service")["spec"]["clusterIPs"][0]
    late, other = shop.fabric.nodes[0], shop.fabric.nodes[1]
    first = holder(three)
    with gated(shop, f"gated-{how}") as (each,):
        with stopped(shop, late) as go_on:
            each.report(ready=False)
            until(lambda: each.pod.name in reached(other.clients[0].space, address, 80, "tcp"), 30)
            ENDS[how](first)
            second = three.another(first)
            until(lambda: second.status().waiters > 0, 30)  # it asks for the Pod
            time.sleep(3)  # more than a round of questions
            assert each.gate == {}
            go_on()
            until(lambda: each.gate.get("status") == "True", 60, what=lambda: second.said[-3000:])
        for node in shop.fabric.nodes:
            assert each.pod.name in reached(node.clients[0].space, address, 80, "tcp")
        set_once(three, each)
        assert second.gates(each.name) == 1
    assert ("lease given back" in first.said.rpartition("lease acquired")[2]) == (how == "stopped")
    first.start(60)


class Frozen:
    """A replica that stands still while its write of the first of two Pods is on its way, and the one after it."""

    def __init__(self, first: Replica, second: Replica, pods: list[Gated]) -> None:
        self.first, self.second, (self.one, self.two) = first, second, pods


@contextmanager
def frozen(three: Three, shop: Shop, tag: str) -> Iterator[Frozen]:
    """`goes_on` ends it."""
    first, late = holder(three), shop.fabric.nodes[0]
    with gated(shop, f"gated-{tag}-1", f"gated-{tag}-2") as pods:
        first.way.catch(f"PATCH /api/v1/namespaces/default/pods/{pods[0].name}/status ")
        with stopped(shop, late) as go_on:
            for each in pods:
                each.report(ready=False)
            go_on()
            assert first.way.caught.wait(60), first.said[-3000:]
        with first.paused():
            second = three.another(first)
            yield Frozen(first, second, pods)


def goes_on(three: Three, found: Frozen) -> None:
    """The write arrives; after that the replica itself goes on, and has nothing to write any more."""
    before = found.two.gate
    found.first.way.release()
    time.sleep(2)
    assert found.first.process is not None
    found.first.process.signal(signal.SIGCONT)
    until(lambda: "lease lost" in found.first.said.rpartition("lease acquired")[2], 60)
    time.sleep(3)
    assert found.two.gate == before
    set_once(three, found.two)
    assert (found.second.gates(found.two.name), three.holder) == (1, found.second)


def test_a_write_that_arrives_after_its_writers_term_changes_nothing_of_what_another_has_set(
    three: Three, shop: Shop
) -> None:
    with frozen(three, shop, "kept") as found:
        for each in (found.one, found.two):
            until(lambda each=each: each.gate.get("status") == "True", 60)  # type: ignore[misc]
        before = found.one.gate
        goes_on(three, found)
        assert found.one.gate["status"] == "True"
        assert found.one.gate["lastTransitionTime"] < before["lastTransitionTime"]  # it did arrive
        assert found.second.gates(found.one.name) == 1


def test_a_write_that_arrives_after_its_writers_term_is_not_for_a_new_pod_of_the_name(three: Three, shop: Shop) -> None:
    with frozen(three, shop, "other") as found:
        found.one.close()
        until(lambda: not_there(shop.rest, found.one.name), 30)
        new = Gated(shop, found.one.pod, found.one.name)
        until(lambda: found.two.gate.get("status") == "True", 60)
        goes_on(three, found)
        assert new.gate == {}
        new.report(ready=False)
        until(lambda: new.gate.get("status") == "True", 60, what=lambda: found.second.said[-3000:])


def not_there(rest: Rest, name: str) -> bool:
    found = rest.call("GET", "/api/v1/namespaces/default/pods")["items"]
    return name not in {each["metadata"]["name"] for each in found}


@pytest.mark.parametrize("how", ENDS)
def test_a_pod_that_ends_is_answered_though_the_agents_replica_restarts(three: Three, shop: Shop, how: str) -> None:
    pods, late = shop.fabric.pods, shop.fabric.nodes[-1]
    leaving = pods[0]
    node = shop.fabric.node(leaving.node)
    asked = three.follows(node.name)
    with ThreadPoolExecutor() as pool, stopped(shop, late) as go_on:
        answer = asking(pool, leaving.space, node, 4)
        leave(shop, leaving, pods)
        until(lambda: asked.status().waiters > 0, 30)
        ENDS[how](asked)
        with pytest.raises(TimeoutError):
            answer.result(3.0)
        asked.start(60)
        go_on()
        status, text = answer.result(70)

    assert status == 200, text
    assert " gets no new connections from any of 3 nodes, after " in text
    address = shop.rest.get("Service", "my-service")["spec"]["clusterIPs"][0]
    for each in shop.fabric.nodes:
        assert reached(each.clients[0].space, address, 80, "tcp") == names(pods) - {leaving.name}
