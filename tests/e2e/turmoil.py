"""An installation that can be treated badly: three replicas on hosts of their own, TLS, pods' tokens, the real API.

Agents run on every node of the laboratory and know all three replicas. `Site` starts, asks and changes it; what is done
to it and what clients see of it is in `test_everything_at_once`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import grpc
import yaml

from controlplane.identity.flags import ACCOUNT, AUDIENCE
from deltaplane.v1 import inspection_pb2 as inspection
from deltaplane.v1.inspection_pb2_grpc import InspectionServiceStub
from tests.certificates import Authority
from tests.e2e import tables
from tests.e2e.conftest import Cluster
from tests.faults.world import Part, until
from tools.lab import netns
from tools.lab.apiserver import PORT as API_PORT
from tools.lab.deltaplane import LEAVE_THE_MACHINE
from tools.lab.fabric import CLUSTER_CIDRS, Host, Node
from tools.lab.manifests import Object
from tools.lab.relay import Relay
from tools.lab.rest import Rest
from tools.lab.rules import nft, run

NAMESPACE, NAME = ACCOUNT.split("/")
PORT = 50081
SERVER_NAME = "replica"  # stands in every replica's certificate beside its address


class Replica(Part):
    """A control plane on a host that nobody else is on."""

    def __init__(self, site: Site, number: int) -> None:
        self.host = _host(site.cluster, number)
        self.address = f"{self.host.v4}:{PORT}"
        self.pair = site.authority.sign(f"replica-{number}", *self.names)
        self.relay = Relay(self.host.space, self.host.v4, PORT)
        super().__init__(f"replica-{number}", site.folder, [
            "controlplane", f"--kubeconfig={site.cluster.kubeconfig}", f"--listen={self.address}", *self.pair.flags(),
        ], self.host.space)  # fmt: skip

    @property
    def names(self) -> tuple[str, str]:
        return f"IP:{self.host.v4}", f"DNS:{SERVER_NAME}"

    def serves(self) -> bool:
        return "serving" in self.running.output()

    def restart(self) -> None:
        """Returns when it serves."""
        self.start()
        until(self.serves, f"{self.name} that serves")

    @contextmanager
    def cut(self, hook: str) -> Iterator[None]:
        """Every packet of one direction is lost meanwhile: of nft's hook "input" or "output"."""
        rules = f"table inet cut {{\nchain lost {{\ntype filter hook {hook} priority -400; policy drop;\n}}\n}}\n"
        run(self.host.space, "nft", "-f", "-", stdin=rules)
        try:
            yield
        finally:
            nft(self.host.space, "delete", "table", "inet", "cut")


def _host(cluster: Cluster, number: int) -> Host:
    """On the segment of the control plane."""
    fabric, (v4, v6) = cluster.fabric, (f"198.51.100.{10 + number}", f"2001:db8:c::{10 + number:x}")
    space = fabric.machine(f"replica-{number}")
    fabric.wiring.pair(fabric.router, f"replica-{number}", space, "eth0")
    fabric.wiring.join_bridge(fabric.router, f"replica-{number}", "control")
    fabric.wiring.configure(space, "eth0", [f"{v4}/24", f"{v6}/64"])
    for gateway in ("198.51.100.1", "2001:db8:c::1"):
        fabric.wiring.route(space, "default", gateway, "eth0")
    return Host(space.name, space, v4, v6)


class Site:
    """`replicas` and `agents` (by node), not started. Certificates are of `authority`, and are files of `folder`."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.authority = Authority(folder)
        self.believed = folder / "believed.pem"  # the authorities that agents believe
        self.believed.write_bytes(self.authority.certificate.read_bytes())
        self.pods: list[Object] = []
        self.replicas = [Replica(self, number) for number in range(1, 4)]
        self.agents = {node.name: self._agent(node) for node in cluster.fabric.nodes}

    def _agent(self, node: Node) -> Part:
        token = self.folder / f"token-{node.name}"
        self.show_token(node.name)
        return Part(f"agent-{node.name}", self.folder, [
            "agent", f"--server={','.join(replica.address for replica in self.replicas)}",
            f"--server-ca-file={self.believed}", f"--token-file={token}", f"--hostname-override={node.name}",
            f"--cluster-cidr={','.join(CLUSTER_CIDRS)}", f"--state-dir={self.folder}/state-{node.name}",
            "--proxy-mode=nftables", *LEAVE_THE_MACHINE,
        ], node.space)  # fmt: skip

    def show_token(self, node: str) -> None:
        """A fresh token of a pod on the node, as the kubelet projects it."""
        admin = self.cluster.api.admin
        spec = {"nodeName": node, "serviceAccountName": NAME, "containers": [{"name": "a", "image": "a"}]}
        metadata = {"name": f"agent-{token_hex(4)}", "namespace": NAMESPACE}
        pod = admin.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        self.pods.append(pod)
        token = admin.create_token(NAME, NAMESPACE, 3600, audience=AUDIENCE, pod=pod)
        fresh = self.folder / "fresh-token"
        fresh.write_text(token)
        fresh.replace(self.folder / f"token-{node}")

    @contextmanager
    def rest(self) -> Iterator[Rest]:
        """One more connection to the API server, for a thread of its own, as administrator."""
        api = self.cluster.api
        config = yaml.safe_load(api.admin_kubeconfig.read_text())
        authority = self.folder / "apiserver.pem"
        authority.write_bytes(base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]))
        made = Rest(api.host.space, api.host.v4, API_PORT, authority, config["users"][0]["user"]["token"])
        try:
            yield made
        finally:
            made.close()

    # ------------------------------------------------------------ what is done to it

    def upgrade(self, node: str) -> None:
        """The agent ends politely and another process with today's code follows; the rules stay meanwhile."""
        agent = self.agents[node]
        agent.stop()
        agent.code = Part("", self.folder, ()).code
        agent.start()

    @contextmanager
    def new_certificates(self) -> Iterator[None]:
        """Another authority from now on, and every replica's certificate of it; at the end the old one is forgotten.

        Every agent's token changes as well.
        """
        (self.folder / "new").mkdir()
        old, self.authority = self.authority, Authority(self.folder / "new")
        self.believed.write_bytes(old.certificate.read_bytes() + self.authority.certificate.read_bytes())
        for replica in self.replicas:
            replica.pair.replace(self.authority.sign(replica.name, *replica.names))
        for node in self.agents:
            self.show_token(node)
        yield
        self.believed.write_bytes(self.authority.certificate.read_bytes())

    # ------------------------------------------------------------ what it says

    @contextmanager
    def asked(self, replica: Replica) -> Iterator[Any]:
        """The inspection of one replica."""
        token = grpc.access_token_call_credentials(self._operator())
        tls = grpc.ssl_channel_credentials(self.believed.read_bytes())
        name = [("grpc.ssl_target_name_override", SERVER_NAME)]
        with grpc.secure_channel(replica.relay.target, grpc.composite_channel_credentials(tls, token), name) as channel:
            yield InspectionServiceStub(channel)

    def _operator(self) -> str:
        admin, group = self.cluster.api.admin, "rbac.authorization.k8s.io"
        account = {"name": "turmoil", "namespace": NAMESPACE}
        admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account})
        admin.apply({
            "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": "turmoil"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "deltaplane-inspector"},
            "subjects": [{"kind": "ServiceAccount"} | account],
        })  # fmt: skip
        return admin.create_token("turmoil", NAMESPACE, 3600, audience=AUDIENCE)

    def nodes(self, replica: Replica) -> list[inspection.NodeStatus]:
        """Those that have a stream to it."""
        with self.asked(replica) as ask:
            listed = ask.ListNodes(inspection.ListNodesRequest(), timeout=10, wait_for_ready=True).nodes
            return [node for node in listed if node.state != inspection.NODE_STATE_DISCONNECTED]

    def answers(self) -> bool:
        """Whether all replicas do."""
        try:
            return len(self.states()[0]) == len(self.replicas)
        except grpc.RpcError:
            return False

    def states(self) -> tuple[list[inspection.GetStatusResponse], dict[str, inspection.NodeStatus]]:
        """What each replica says of itself, and of each node what the replica says that has its stream."""
        statuses: list[inspection.GetStatusResponse] = []
        nodes: dict[str, inspection.NodeStatus] = {}
        for replica in self.replicas:
            with self.asked(replica) as ask:
                statuses.append(ask.GetStatus(inspection.GetStatusRequest(), timeout=10))
            live = [node for node in self.nodes(replica) if node.state == inspection.NODE_STATE_LIVE]
            nodes |= {node.node_name: node for node in live if node.applied_rev == statuses[-1].head_rev}
        return statuses, nodes

    def differs(self) -> str:
        """What is not as the API says, in the kernels or in the replicas; empty: nothing."""
        try:
            return self._differs()
        except (RuntimeError, AssertionError, grpc.RpcError) as failure:
            return str(failure)

    def _differs(self) -> str:
        services, slices = tables.objects_of(self.cluster.api.admin)
        for node in self.cluster.fabric.nodes:
            if (found := tables.read(node.space)) != (wanted := tables.wanted(services, slices, node)):
                return f"{node.name} has\n{found}\nwanted\n{wanted}"
        statuses, nodes = self.states()
        if len({status.digest for status in statuses}) != 1:
            return f"digests {[status.digest for status in statuses]}"
        return "" if nodes.keys() == self.agents.keys() else f"up to date: {sorted(nodes)}"

    def parts(self) -> Iterator[Part]:
        yield from self.replicas
        yield from self.agents.values()


@contextmanager
def running(cluster: Cluster, folder: Path, old: Path) -> Iterator[Site]:
    """All parts are started; the first node's agent has the code of the folder `old`."""
    with ExitStack() as stack:
        made = Site(cluster, folder)
        stack.callback(_forget, made)
        next(iter(made.agents.values())).code = old
        for part in made.parts():
            stack.callback(part.kill)
            part.start()
        yield made


def _forget(made: Site) -> None:
    """Hosts and pods that only this site had."""
    fabric, admin = made.cluster.fabric, made.cluster.api.admin
    for replica in made.replicas:
        replica.relay.close()
        fabric.wiring.forget(replica.host.space)
        fabric.spaces.remove(replica.host.space)
        netns.delete(replica.host.space)
    for pod in made.pods:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}"
        admin.call("DELETE", path, {"gracePeriodSeconds": 0})
