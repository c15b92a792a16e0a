"""kube-proxy's ipvs mode and ours on the same node from the same objects: the same virtual servers, addresses and sets.

kube-proxy goes first, and the agent then takes over what it left: so this is also what a node sees that changes from
one to the other. Needs etcd, kube-apiserver and kube-proxy (`make real-parts`), and half a minute for them to start.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.ipvs_support import run, wipe
from tests.vm.services import vip
from tools.lab import kubeproxy, manifests
from tools.lab.apiserver import ApiServer
from tools.lab.client import knocking, until
from tools.lab.deltaplane import Deployment
from tools.lab.echo import EchoServers
from tools.lab.fabric import Fabric, Node
from tools.lab.manifests import Object
from tools.lab.parts import PartMissing

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture
def api(lab: Fabric, tmp_path: Path) -> Iterator[ApiServer]:
    try:
        made = ApiServer(lab.apiserver, tmp_path)
    except PartMissing as missing:
        pytest.skip(str(missing))
    try:
        made.start(timeout=240)
        yield made
    finally:
        made.close()


def objects(lab: Fabric) -> list[Object]:
    """ClusterIPs with and without endpoints, a node port, affinity, UDP, an external IP, a load balancer."""
    tcp, udp = manifests.port(80, 8080, "p"), manifests.port(53, 8080, "p", "UDP")
    ports = {"tcp": [manifests.slice_port(8080, "p")], "udp": [manifests.slice_port(8080, "p", "UDP")]}
    node_port = manifests.port(80, 8080, "p", node_port=30080)
    both = [vip(4, 11), vip(6, 11)]  # the first ones are the API server's
    return [
        manifests.service("web", [node_port], both, kind="NodePort"),
        *manifests.slices("web", lab.pods, ports["tcp"]),
        manifests.service("dns", [udp], [vip(4, 12), vip(6, 12)]),
        *manifests.slices("dns", lab.pods[:2], ports["udp"]),
        manifests.service("empty", [tcp], [vip(4, 13), vip(6, 13)]),
        manifests.service("sticky", [tcp], [vip(4, 14)], sessionAffinity="ClientIP"),
        *manifests.slices("sticky", lab.pods[:3], ports["tcp"])[:1],
        manifests.service("outside", [tcp], [vip(4, 15)], externalIPs=["192.0.2.5"]),
        *manifests.slices("outside", lab.pods[1:], ports["tcp"])[:1],
    ]


def test_the_same_in_the_kernel_and_taken_over_without_a_failed_connection(
    lab: Fabric, api: ApiServer, serving: EchoServers, tmp_path: Path
) -> None:
    node = lab.nodes[0]
    wipe(node.space)
    wanted = objects(lab)
    for each in lab.nodes:
        api.admin.apply_node(manifests.node_object(each))
    for thing in wanted:
        api.admin.apply(thing)
    reference = kubeproxy.start(node, api.admin_kubeconfig, tmp_path, "ipvs")
    try:
        until(lambda: f"{lab.pods[3].v4}:8080" in run(node.space, "ipvsadm", "-Ln"), 60, what=lambda: reference.tail(8))
        until(lambda: settled(node), 90, pause=3.0, what=lambda: reference.tail(8))
        theirs = held(node)
    finally:
        reference.stop()
    folder = tmp_path / "objects"
    folder.mkdir()
    manifests.write(folder / "all.yaml", *wanted, *(manifests.node_object(each) for each in lab.nodes))
    with (
        knocking(node.clients[0].space, vip(4, 11), 80, pause=0.05) as seen,
        Deployment(lab, tmp_path, "--source=manifests", f"--manifests={folder}") as line,
    ):
        del line.agents[lab.nodes[1].name]
        line.agents[node.name].mode = "ipvs"
        line.start(timeout=120)
        ours = held(node)
    assert seen.failures == []
    assert ours == theirs
    wipe(node.space)


_seen: list[dict[str, set[str]]] = []


def settled(node: Node) -> bool:
    """Whether nothing has changed since the last look."""
    _seen.append({"all": set(run(node.space, "ipset", "save").splitlines())})
    return len(_seen) > 1 and _seen[-1] == _seen[-2]


def held(node: Node) -> dict[str, set[str]]:
    """Virtual servers, addresses of the link, elements of the sets that both have; without the API server itself."""
    own = re.compile(r"172\.30\.0\.(?!1[1-5]\b)\d+|198\.51\.100\.2:6443")
    text = run(node.space, "ipset", "save")
    created = set(re.findall(r"^create (\S+) (\S+)", text, re.MULTILINE))
    theirs = {
        name
        for name, _ in created
        if "KUBE-IPVS-" not in name.replace("KUBE-6-IPVS", "KUBE-IPVS") or name.endswith("IPS")
    }
    found = {
        "virtual servers": set(run(node.space, "ipvsadm", "-Sn").splitlines()),
        "addresses": set(re.findall(r"inet6? (\S+) scope global", run(node.space, "ip", "addr", "show", "kube-ipvs0"))),
        "sets": {f"{name} {kind}" for name, kind in created if name in theirs},
        "elements": {line for line in text.splitlines() if line.startswith("add ") and line.split()[1] in theirs},
    }
    return {name: {line for line in lines if not own.search(line)} for name, lines in found.items()}
