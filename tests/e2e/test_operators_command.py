"""`kubectl deltaplane` by the real kubectl: the real API server finds the Pod, forwards its port and makes a token."""

from __future__ import annotations

import asyncio
import secrets
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.e2e.conftest import Cluster
from tests.e2e.kubelet import PORT as KUBELET
from tests.e2e.test_identity import PORT, Place, started
from tests.operatorcli.world import Said
from tests.streams.programs import Program
from tests.unit.deploy.manifests import REPOSITORY
from tools.lab import parts
from tools.lab.rest import Rest

NAMESPACE, HOST = "deltaplane-system", "control-1"
PLUGIN = """#!{python}
import sys
sys.path.insert(0, "{repository}")
from operatorcli.kubectl import {entry}
sys.exit({entry}())
"""
POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "replica-1", "namespace": NAMESPACE,
                 "labels": {"app.kubernetes.io/name": "deltaplane-controlplane"}},
    "spec": {"nodeName": HOST, "containers": [
        {"name": "controlplane", "image": "deltaplane", "ports": [{"name": "grpc", "containerPort": PORT}]}]},
}  # fmt: skip


class Person:
    """Somebody with a kubeconfig of an account that has the Role deltaplane-command, and nothing else."""

    def __init__(self, place: Place, folder: Path) -> None:
        self._place, self._folder = place, folder
        self.admin: Rest = place.cluster.api.admin
        self.name = f"alice-{secrets.token_hex(3)}"  # nobody whom a test before has given rights
        for name, entry in (("kubectl-deltaplane", "run"), ("kubectl_complete-deltaplane", "complete")):
            path = folder / name
            path.write_text(PLUGIN.format(python=sys.executable, repository=REPOSITORY, entry=entry))
            path.chmod(0o755)
        account = {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
        }
        self.admin.apply(account)
        self._config = place.cluster.api.kubeconfig(self.name, NAMESPACE)

    def bind(self) -> None:
        """As docs/command.md says."""
        group = "rbac.authorization.k8s.io"
        self.admin.apply({
            "apiVersion": f"{group}/v1", "kind": "RoleBinding", "metadata": {"name": self.name, "namespace": NAMESPACE},
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "deltaplane-command"},
            "subjects": [{"kind": "ServiceAccount", "name": self.name, "namespace": NAMESPACE}],
        })  # fmt: skip

    async def kubectl(self, *words: str) -> Said:
        """What kubectl ends with and prints."""
        path = f"PATH={self._folder}:/usr/bin:/bin"
        inside = ("ip", "netns", "exec", self._place.host.space.name, "env", path, f"KUBECONFIG={self._config}")
        process = await asyncio.create_subprocess_exec(
            *inside, parts.find("kubectl"), *words, stdout=PIPE, stderr=PIPE, cwd=self._folder
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def until_allowed(self, *words: str) -> Said:
        """The API server's authoriser hears of a binding by a watch of its own."""
        said = await self.kubectl(*words)
        for _ in range(100):
            if said.code != 4:
                break
            await asyncio.sleep(0.2)
            said = await self.kubectl(*words)
        return said


@pytest.fixture
async def place(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    """A replica in TLS, whose Pod and Node the API server knows, and a kubelet there."""
    made = Place(cluster, tmp_path)
    admin = cluster.api.admin
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": HOST}}
    address = [{"type": "InternalIP", "address": made.host.v4}]
    admin.apply_node(
        node | {"status": {"addresses": address, "daemonEndpoints": {"kubeletEndpoint": {"Port": KUBELET}}}}
    )
    admin.apply(POD)
    ready = {"podIP": made.host.v4, "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    admin.patch("Pod", "replica-1", {"status": ready}, namespace=NAMESPACE, sub="status")
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "deltaplane-ca", "namespace": NAMESPACE}}
    admin.apply(config | {"data": {"ca.crt": made.authority.certificate.read_text()}})
    pair = made.server
    kubelet = Program(
        "-m", "tests.e2e.kubelet", made.host.v4, str(pair.certificate), str(pair.key), space=made.host.space
    )
    try:
        async with started(made.plane, kubelet):
            await made.plane.until(lambda: any("serving" in line for line in made.plane.lines))
            await kubelet.until(lambda: any("kubelet serves" in line for line in kubelet.lines))
            yield made
    finally:
        admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/replica-1", {"gracePeriodSeconds": 0})
        admin.delete(node)
        admin.delete(config)


async def test_kubectl_deltaplane_asks_a_replica_through_the_api_server(place: Place, tmp_path: Path) -> None:
    person = Person(place, tmp_path)
    before = await person.kubectl("deltaplane", "status")
    person.bind()

    said = await person.until_allowed("deltaplane", "status")

    assert before.code == 4, before.err
    assert "you may not list pods in namespace deltaplane-system" in before.err
    assert "replica-1" in said.out, said.err
    assert f"at pod {NAMESPACE}/replica-1" in said.out
    assert "services yes" in " ".join(said.out.split())
    assert said.code == 1  # no agent runs
    assert "no agent has connected" in said.out
    assert "Traceback" not in said.err


async def test_the_commands_account_may_wait_and_not_act(place: Place, tmp_path: Path) -> None:
    person = Person(place, tmp_path)
    person.bind()
    await person.until_allowed("deltaplane", "nodes")

    waited = await person.kubectl("deltaplane", "wait", "svc/kubernetes", "-n", "default", "--timeout=1s")
    acted = await person.kubectl("deltaplane", "release-brake", "--all")

    assert waited.code == 1, waited.err  # Nodes without agents
    assert "no agent" in waited.out
    assert acted.code == 4
    assert "may not update brakes.deltaplane.dev" in acted.err
    assert "deltaplane-operator" in acted.err


async def test_kubectl_completes_the_verbs(place: Place, tmp_path: Path) -> None:
    said = await Person(place, tmp_path).kubectl("__complete", "deltaplane", "no")

    assert said.out.splitlines() == ["nodes", ":4"]
