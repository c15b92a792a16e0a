"""`python -m tools.cluster up [--hold]`: a real two-node Kubernetes on this machine; `down` removes it.

`up` says how to reach it, and takes it down again: at once, or with --hold when it is asked to end (Ctrl-C, `down`).
`down` ends every cluster of this machine, and removes what one left that was killed. `left` lists what there is.
Exit code: 0; 1 where something stays or does not come up; 3 with the reason where no cluster can run here.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Iterable, Iterator

from tools.lab import kubeproxy, parts
from tools.lab.cluster import cluster as clusters
from tools.lab.cluster import leftovers
from tools.lab.cluster.cluster import Cluster
from tools.lab.fabric import CLUSTER_CIDRS, Host, Node
from tools.lab.process import ProcessFailed

AGENTS = 50051  # where agents reach a replica


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="bring one up")
    up.add_argument("--hold", action="store_true", help="until Ctrl-C or `down`")
    up.add_argument("--proxy-mode", help="with kube-proxy in this mode on each node; without: no proxy at all")
    commands.add_parser("down", help="end all, and remove what is left")
    commands.add_parser("left", help="list what there is")
    said = parser.parse_args()
    if said.command == "up":
        return _up(said.proxy_mode, hold=said.hold)
    return _down() if said.command == "down" else _left()


def _up(mode: str | None, *, hold: bool) -> int:
    reason = clusters.unavailable()
    if reason:
        _say(f"skipped: {reason}")
        return 3
    began = time.monotonic()
    try:
        with clusters.running() as cluster:
            _start_proxies(cluster, mode)
            _say(f"two nodes Ready after {time.monotonic() - began:.0f} s; logs in {cluster.run.folder}")
            for line in reached(cluster.fabric.nodes, cluster.api.host, cluster.api.url):
                _say(line)
            kubectl = f"{parts.find('kubectl')} --kubeconfig={cluster.api.admin_kubeconfig}"
            _say(f"ip netns exec {cluster.api.host.space.name} {kubectl}")
            if hold:
                signal.pause()
    except ProcessFailed as failure:
        _say(str(failure))
        return 1
    except KeyboardInterrupt:
        _say("taken down")
    return 0


def reached(nodes: Iterable[Node], host: Host, url: str) -> Iterator[str]:
    """Where the API server and each node are, and what an overlay has to say of them. Pure."""
    yield f"API server: {url}, on a host of its own: {host.v4}, {host.v6}; namespace {host.space.name}"
    servers = []
    for node in nodes:
        servers.append(f"{node.address()}:{AGENTS}")
        where = f"{node.address()}, {node.address(6)}; Pods {', '.join(node.pod_cidrs)}"
        yield f"{node.name}: {where}; namespace {node.space.name}"
    settings = f"server={','.join(servers)} cluster-cidr={','.join(CLUSTER_CIDRS)}"
    yield f"for an overlay: {settings} KUBERNETES_SERVICE_HOST={host.v4}"


def _start_proxies(cluster: Cluster, mode: str | None) -> None:
    for place in cluster.fabric.nodes if mode else ():
        kubeproxy.start(place, cluster.api.admin_kubeconfig, cluster.run.folder, str(mode))


def _down() -> int:
    for name in leftovers.ended():
        _say(f"{name} ended")
    for name in leftovers.removed():
        _say(f"{name}: its remains are removed")
    return _left()


def _left() -> int:
    left = leftovers.found()
    for line in left:
        _say(f"left: {line}")
    return 1 if left else 0


def _say(text: str) -> None:
    print(f"cluster: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
