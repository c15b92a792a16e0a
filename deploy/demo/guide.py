"""What to try while the demo stays up: commands that can be copied as they are."""

from __future__ import annotations

from deploy.demo.screen import Screen
from deploy.demo.stage import Stage
from deploy.demo.steps import NODE_PORT, VOID, WEB
from tools.lab import parts


def commands(stage: Stage) -> list[tuple[str, list[str]]]:
    """What each group of commands shows, and the commands."""
    node = stage.fabric.nodes[0]
    client, outside = node.clients[0], stage.fabric.outside[0]
    plane = stage.deployment.controlplane
    grpcurl = parts.folder() / "grpcurl"
    tool = f"{grpcurl if grpcurl.exists() else 'grpcurl'} -plaintext"
    inspect = f"{plane.relay.target} deltaplane.v1.InspectionService"
    logs = f"{plane.log.parent}/*.log"
    return [
        ("What the kernel of a node holds", [
            f"ip netns exec {node.space.name} nft list table ip deltaplane",
            f"ip netns exec {node.space.name} nft list table ip6 deltaplane",
            f"ip netns exec {node.space.name} nft monitor",
        ]),
        ("A request from a pod, from outside, and one that is refused", [
            f"ip netns exec {client.space.name} bash -c 'head -1 </dev/tcp/{WEB[0]}/80'",
            f"ip netns exec {outside.space.name} bash -c 'head -1 </dev/tcp/{node.v4[0]}/{NODE_PORT}'",
            f"ip netns exec {client.space.name} bash -c 'head -1 </dev/tcp/{VOID[0]}/80'",
        ]),
        ("What the control plane knows of its nodes, and commits as they happen", [
            f"{tool} {plane.relay.target} list",
            f"{tool} {inspect}/ListNodes",
            f"{tool} {inspect}/TailCommits",
        ]),
        ("Change something: save the file and it is in three kernels", [
            f"${{EDITOR:-vi}} {stage.manifests / 'shop.yaml'}",
            f"sed -i 's/ready: false/ready: true/' {stage.manifests / 'shop.yaml'}",
        ]),
        ("What the programs say", [f"tail -f {logs}"]),
    ]  # fmt: skip


def show(stage: Stage, screen: Screen) -> None:
    screen.title("It stays up. In another terminal, as root:")
    for what, lines in commands(stage):
        screen.line()
        screen.say(what)
        for line in lines:
            screen.line(f"     {screen.paint(line, 'cyan')}")
    screen.line()
    screen.say("Ctrl-C takes everything down.")
