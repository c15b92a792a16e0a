"""`python -m deploy.demo [--hold]` (or HOLD=1): exit code 0 when everything shown was as it should be, 1 when not."""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time

import grpc

from deploy.demo import guide, steps
from deploy.demo.screen import Screen
from deploy.demo.stage import Stage, built
from tools.lab import netns


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m deploy.demo", description="Deltaplane on three nodes, step by step."
    )
    held = os.environ.get("HOLD", "") not in ("", "0")
    parser.add_argument("--hold", action="store_true", default=held, help="stay up for exploring until Ctrl-C")
    hold: bool = parser.parse_args().hold
    if sys.platform != "linux" or os.geteuid() != 0:
        print("demo: network namespaces need root on Linux: run it with sudo", file=sys.stderr)
        return 1
    screen = Screen()
    code = _guarded(screen, hold=hold)
    left = [space.name for pid, space in netns.listed() if pid == os.getpid()]
    if left:
        print(f"demo: namespaces left behind: {', '.join(left)}", file=sys.stderr)
        return 1
    screen.aside("taken down: no namespace and no process is left")
    return code


def _guarded(screen: Screen, *, hold: bool) -> int:
    try:
        return _run(screen, hold=hold)
    except KeyboardInterrupt:
        screen.line()
        return 0 if hold and not screen.wrong else 130
    except (OSError, RuntimeError, grpc.RpcError) as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1


def _run(screen: Screen, *, hold: bool) -> int:
    screen.title("Deltaplane: one change at a time, from a manifest to a packet")
    screen.aside("making the network and starting the programs, which takes about five seconds")
    began = time.monotonic()
    with built() as stage:
        _introduce(stage, screen, began)
        for step in steps.STEPS:
            step(stage, screen)
        _conclude(screen)
        if hold:
            guide.show(stage, screen)
            threading.Event().wait()
    return 1 if screen.wrong else 0


def _introduce(stage: Stage, screen: Screen, began: float) -> None:
    fabric = stage.fabric
    screen.say(f"{len(fabric.spaces)} network namespaces: a router, an outside client, and")
    for node in fabric.nodes:
        pods = ", ".join(pod.name for pod in (*node.servers, *node.clients))
        screen.say(f"  {node.name} ({node.zone}, {node.v4[0]}, {node.v6[0]}) with {pods}")
    stage.start()
    screen.say(f"control plane on {stage.deployment.controlplane.address}, an agent on every node, all up to date")
    screen.aside(f"ready after {time.monotonic() - began:.1f} s; objects come from the files in {stage.manifests}")


def _conclude(screen: Screen) -> None:
    screen.line()
    if screen.wrong:
        screen.line(screen.paint("   Not as it should be:", "red"))
        for text in screen.wrong:
            screen.line(f"   ✗ {text}")
    else:
        screen.line(screen.paint("   All of it as it should be.", "green"))


if __name__ == "__main__":
    sys.exit(main())
