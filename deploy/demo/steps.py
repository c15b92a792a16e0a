"""What the demo shows, one function per step. Each makes real requests and checks what came back."""

from __future__ import annotations

import time
from collections.abc import Iterable

from deploy.demo.screen import Screen
from deploy.demo.stage import Stage, Work
from tools.lab import manifests
from tools.lab.client import REFUSED, Connection, connect, knocking
from tools.lab.fabric import Pod
from tools.lab.manifests import Object

WEB = ("172.30.0.10", "fd00:10:96::10")
SHOP = ("172.30.0.20", "fd00:10:96::20")
VOID = ("172.30.0.30", "fd00:10:96::30")
NODE_PORT = 32223


def service(name: str, addresses: tuple[str, str], node_port: int = 0) -> Object:
    """A Service of both families on port 80, whose pods listen on 8080."""
    ports = [manifests.port(80, 8080, node_port=node_port)]
    return manifests.service(name, ports, addresses, kind="NodePort" if node_port else "ClusterIP")


def documents(name: str, addresses: tuple[str, str], pods: Iterable[Pod], unready: Iterable[Pod] = ()) -> list[Object]:
    """The Service and its slices."""
    slices = manifests.slices(name, pods, [manifests.slice_port(8080)], unready=unready)
    return [service(name, addresses, NODE_PORT if name == "web" else 0), *slices]


def spread(stage: Stage, screen: Screen) -> None:
    """A Service with six endpoints: everybody gets a share, in both families."""
    screen.step("A Service with six endpoints: requests spread over all of them")
    pods = stage.fabric.pods
    client = stage.fabric.nodes[0].clients[0]
    screen.aside(f"written: {stage.manifests / 'web.yaml'}")
    report(screen, stage.change("web.yaml", *documents("web", WEB, pods)))
    for address in WEB:
        counts = stage.requests(client, address, 80, 1200)
        screen.say(f"1200 requests from pod {client.name} to {bracket(address)}:80")
        screen.bars(counts, {pod.name: pod.address(6 if ":" in address else 4) for pod in pods})
        even = min(counts.values()) > 0.6 * 1200 / len(pods)
        screen.check(set(counts) == {pod.name for pod in pods} and even, "every endpoint has its share, none failed")
    own = stage.fabric.pods[0]
    seen = {outcome.seen for outcome in (connect(own.space, WEB[0], 80) for _ in range(60)) if outcome.name == own.name}
    gateway = stage.fabric.nodes[0].gateway()
    screen.check(seen == {gateway}, f"a pod of the Service reaches itself through it, and sees its node ({gateway})")


def node_port(stage: Stage, screen: Screen) -> None:
    """From outside, every node answers; pods see the node as client."""
    outside = stage.fabric.outside[0]
    screen.step(f"A NodePort from outside ({outside.v4}): every node answers, pods see the node's address")
    for family in (4, 6):
        rows = []
        fine = True
        for node in stage.fabric.nodes:
            at = node.address(family)
            outcomes = [connect(outside.space, at, NODE_PORT) for _ in range(30)]
            own = {at, node.gateway(family)}
            fine = fine and all(outcome.answered and outcome.seen in own for outcome in outcomes)
            pods = {outcome.name for outcome in outcomes}
            seen = sorted({outcome.seen for outcome in outcomes})
            rows.append((f"{bracket(at)}:{NODE_PORT}", node.name, str(len(pods)), ", ".join(seen)))
        screen.table(("asked", "node", "pods reached", "clients the pods saw"), rows)
        screen.check(fine, f"IPv{family}: every request was answered, and seen as coming from the node that was asked")


def scale(stage: Stage, screen: Screen) -> None:
    """From one endpoint to three, under a client that never pauses."""
    screen.step("Scale 1 → 3, live")
    pods = [node.servers[0] for node in stage.fabric.nodes]
    client = stage.fabric.nodes[1].clients[0]
    report(screen, stage.change("shop.yaml", *documents("shop", SHOP, pods[:1])))
    counts = stage.requests(client, SHOP[0], 80, 300)
    screen.check(set(counts) == {pods[0].name}, f"one endpoint: 300 of 300 requests answered by {pods[0].name}")
    with knocking(client.space, SHOP[0], 80, pause=0.002) as loop:
        report(screen, stage.change("shop.yaml", *documents("shop", SHOP, pods)))
        counts = stage.requests(client, SHOP[0], 80, 600)
    screen.bars(counts, {pod.name: pod.v4 for pod in pods})
    screen.check(set(counts) == {pod.name for pod in pods}, "three endpoints: all of them answer")
    screen.check(not loop.failures, f"a client that kept connecting meanwhile: {loop.total} connections, none failed")


def unready(stage: Stage, screen: Screen) -> None:
    """New connections avoid an endpoint that is not ready; the established one goes on."""
    screen.step("An endpoint becomes unready: new connections avoid it, the established one goes on")
    pods = [node.servers[0] for node in stage.fabric.nodes]
    client = stage.fabric.nodes[1].clients[0]
    with connection_to(pods[2], stage, client.name) as kept:
        report(screen, stage.change("shop.yaml", *documents("shop", SHOP, pods, unready=[pods[2]])))
        counts = stage.requests(client, SHOP[0], 80, 600)
        screen.bars(counts, {pod.name: pod.v4 for pod in pods})
        rest = {pod.name for pod in pods[:2]}
        screen.check(set(counts) == rest, f"600 new connections: none to {pods[2].name}, none failed")
        screen.check(kept.ask().name == pods[2].name, f"the connection made before still talks to {pods[2].name}")


def connection_to(pod: Pod, stage: Stage, client_name: str) -> Connection:
    """An open connection through the Service that happens to lead to this pod."""
    clients = [client for node in stage.fabric.nodes for client in node.clients]
    client = next(client for client in clients if client.name == client_name)
    for _ in range(200):
        connection = Connection(client.space, SHOP[0], 80)
        if connection.open().name == pod.name:
            return connection
        connection.close()
    raise RuntimeError(f"200 connections to {SHOP[0]}:80 and none reached {pod.name}")


def refused(stage: Stage, screen: Screen) -> None:
    """Without endpoints: refused, by any node, in both families."""
    screen.step("A Service without endpoints: refused, not timed out")
    report(screen, stage.change("void.yaml", service("void", VOID)))
    for address in VOID:
        for client in (stage.fabric.nodes[0].clients[0], stage.fabric.nodes[2]):
            began = time.monotonic()
            outcome = connect(client.space, address, 80)
            took = 1000 * (time.monotonic() - began)
            said = f"{client.name} → {bracket(address)}:80: {outcome.kind} after {took:.1f} ms"
            screen.check(outcome.kind == REFUSED, said)


def crash(stage: Stage, screen: Screen) -> None:
    """All agents and the control plane killed: the kernel goes on, and afterwards there is nothing to write."""
    screen.step("All agents and the control plane are killed and started again: traffic does not notice")
    client = stage.fabric.nodes[0].clients[0]
    plane = stage.deployment.controlplane
    with knocking(client.space, WEB[0], 80, pause=0.002) as loop:
        stage.tail.close()
        for agent in stage.deployment.agents.values():
            agent.kill()
        plane.kill()
        stage.deployment.start()
        stage.tail = plane.tail()
    screen.check(not loop.failures, f"{loop.total} connections meanwhile, {len(loop.failures)} failed")
    counts = stage.requests(client, WEB[0], 80, 300)
    screen.check(set(counts) == {pod.name for pod in stage.fabric.pods}, "afterwards every endpoint still answers")


STEPS = (spread, node_port, scale, unready, refused, crash)


def report(screen: Screen, work: list[Work]) -> None:
    """What the change just made cost, node by node."""
    rows = [
        (w.node, str(w.elements), str(w.messages), str(w.size), f"{w.to_commit:.2f} ms", f"{w.to_ack:.2f} ms")
        for w in work
    ]
    head = ("change on", "kernel elements", "messages", "bytes", "event → commit", "event → ack")
    screen.table(head, rows)
    screen.check(all(w.elements for w in work), "in every node's kernel, acknowledged")


def bracket(address: str) -> str:
    return f"[{address}]" if ":" in address else address
