"""Who an agent is, by a real API server: whose token speaks for which node, and what is refused, told and counted."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import time
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from secrets import token_hex

import pytest

from controlplane.certificates.stored import CONFIG_MAP, FILE, LEASE, SECRET
from controlplane.identity.flags import ACCOUNT, AUDIENCE
from tests.certificates import Authority, openssl
from tests.e2e.conftest import Cluster
from tests.streams.programs import Fleet, Program
from tests.unit.deploy.manifests import REPOSITORY, container
from tools.lab import parts
from tools.lab.deltaplane import LEAVE_THE_MACHINE
from tools.lab.fabric import CLUSTER_CIDRS
from tools.lab.manifests import Object, port, service
from tools.lab.rest import Refused, Rest
from tools.lab.rules import delete_tables, run

COMMAND = "import sys; from deltaplane.cli import main; sys.exit(main())"
NAMESPACE, NAME = ACCOUNT.split("/")
PORT, METRICS, HEALTH, PAGE = 50071, 50072, 50073, 50074
PROTO = REPOSITORY / "proto"
ASK = "deltaplane.v1.InspectionService/"


class Place:
    """A control plane on the real API with tokens as its only proof of who a node is."""

    def __init__(self, cluster: Cluster, folder: Path) -> None:
        self.cluster, self.folder = cluster, folder
        self.host = cluster.fabric.controlplane
        self.nodes = [node.name for node in cluster.fabric.nodes]
        self.authority = Authority(folder)
        self.server = self.authority.sign("server", f"IP:{self.host.v4}")
        self.address = f"{self.host.v4}:{PORT}"
        self.plane = Program(
            "-c", COMMAND, "controlplane", f"--kubeconfig={cluster.kubeconfig}", f"--listen={self.address}",
            f"--metrics-listen=127.0.0.1:{METRICS}", f"--health-listen=127.0.0.1:{HEALTH}",
            f"--http-listen=127.0.0.1:{PAGE}", *self.server.flags(), space=self.host.space,
        )  # fmt: skip
        self.pods: list[Object] = []

    def pod(self, node: str, account: str = NAME) -> Object:
        """A pod of this ServiceAccount on this node."""
        spec = {"nodeName": node, "serviceAccountName": account, "containers": [{"name": "a", "image": "a"}]}
        metadata = {"name": f"agent-{token_hex(4)}", "namespace": NAMESPACE}  # deleted ones stay for a while
        self.pods.append(
            self.cluster.api.admin.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
        )
        return self.pods[-1]

    def token(self, node: str, *, account: str = NAME, audience: str = AUDIENCE) -> str:
        """As the kubelet projects it into such a pod."""
        pod = self.pod(node, account)
        return self.cluster.api.admin.create_token(account, NAMESPACE, 3600, audience=audience, pod=pod)

    def forged(self, token: str, key: Path, **claims: object) -> str:
        """The token with other claims, signed with this key."""
        head, body, _ = token.split(".")
        said = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4))) | claims
        signed = f"{head}.{encoded(json.dumps(said).encode())}"
        return f"{signed}.{encoded(openssl('dgst', '-sha256', '-sign', key, stdin=signed.encode()))}"

    def agent(self, name: str, token: str, *more: str) -> Fleet:
        """An agent that says it is this node, with this token. `more`: flags of tests.streams.agents."""
        file = self.folder / f"{name}-{time.monotonic_ns()}"
        file.write_text(token + "\n")
        flags = (f"--server-ca-file={self.authority.certificate}", f"--token-file={file}", *more)
        return Fleet([self.address], [name], flags=flags, space=self.host.space)

    async def count(self, reason: str) -> float:
        """What the metrics page says of refusals."""
        page = await asyncio.to_thread(run, self.host.space, "curl", "-s", f"http://127.0.0.1:{METRICS}/metrics")
        found = re.search(rf'deltaplane_peers_refused_total{{reason="{reason}"}} (\S+)', page)
        return float(found[1]) if found else 0.0

    def account(self, role: str) -> str:
        """A token of an account with this role; empty: with none."""
        admin, name = self.cluster.api.admin, f"asking-{role or 'nothing'}"
        metadata = {"name": name, "namespace": NAMESPACE}
        admin.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
        if role:
            group = "rbac.authorization.k8s.io"
            admin.apply({
                "apiVersion": f"{group}/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
                "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
                "subjects": [{"kind": "ServiceAccount"} | metadata],
            })  # fmt: skip
        return admin.create_token(name, NAMESPACE, 3600, audience=AUDIENCE)

    async def grpcurl(self, *words: str, token: str = "", proto: bool = False) -> str:
        """What it prints, complaints and all. `proto`: it knows the methods by their file, and asks for no list."""
        shown = ("-H", f"authorization: Bearer {token}") if token else ()
        while words and words[0] in {"-d", "-max-time"}:
            shown, words = (*shown, *words[:2]), words[2:]
        known = ("-import-path", str(PROTO), "-proto", "deltaplane/v1/inspection.proto") if proto else ()
        command = (
            parts.find("grpcurl"),
            "-cacert",
            str(self.authority.certificate),
            *shown,
            *known,
            self.address,
            *words,
        )
        inside = ("ip", "netns", "exec", self.host.space.name)
        process = await asyncio.create_subprocess_exec(*inside, *command, stdout=PIPE, stderr=STDOUT)
        said, _ = await process.communicate()
        return said.decode()

    async def page(self, path: str, token: str = "") -> str:
        """Status and what the page answers, as a browser on the replica's own machine gets it, for two seconds."""
        shown = ("-H", f"Authorization: Bearer {token}") if token else ()
        curl = (
            parts.installed("curl"),
            "-s",
            "-m",
            "2",
            "-w",
            "%{http_code}",
            *shown,
            f"http://127.0.0.1:{PAGE}{path}",
        )
        inside = ("ip", "netns", "exec", self.host.space.name)
        process = await asyncio.create_subprocess_exec(*inside, *curl, stdout=PIPE)
        said, _ = await process.communicate()
        return said.decode()

    async def refused(self, agent: Fleet, status: str, reason: str) -> None:
        """Waits until the agent says it is refused; told and counted here, and nothing of it is served."""
        (program,) = agent.programs
        before = len(self.plane.lines)
        counted = await self.count(reason)
        async with started(agent):
            await program.until(lambda: any("not connected" in line for line in program.lines))
        (said, *_) = (line for line in program.lines if "not connected" in line)
        assert status in said
        told = [line for line in self.plane.lines[before:] if " refused " in line]
        assert len(told) == 1, told
        assert f"status={status}" in told[0]
        assert await self.count(reason) > counted
        assert not any(state.connected for states in agent.history.values() for state in states)
        assert not any("agent connected" in line for line in self.plane.lines[before:])


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


@asynccontextmanager
async def started(*programs: Fleet | Program) -> AsyncIterator[None]:
    try:
        for program in programs:
            await program.start()
        yield
    finally:
        for program in programs:
            await program.stop()


@pytest.fixture
async def place(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Place]:
    made = Place(cluster, tmp_path)
    async with started(made.plane):
        await made.plane.until(lambda: any("serving" in line for line in made.plane.lines))
        yield made
    for pod in made.pods:
        cluster.api.admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod['metadata']['name']}",
                               {"gracePeriodSeconds": 0})  # fmt: skip


async def test_a_pods_token_speaks_for_its_own_node_and_no_other(place: Place) -> None:
    one, other = place.nodes[:2]
    token = place.token(one)
    served = place.agent(one, token)
    async with started(served):
        await served.until(lambda state: state.services > 0)
        await place.refused(place.agent(other, token), "PERMISSION_DENIED", "another-node")
        assert all(state.connected for state in served.states)
        assert [state.connects for state in served.states] == [1]


@pytest.mark.parametrize(
    ("kind", "status", "reason"),
    [
        ("of another audience", "UNAUTHENTICATED", "audience"),
        ("expired", "UNAUTHENTICATED", "expired"),
        ("forged", "UNAUTHENTICATED", "not-authenticated"),
        ("of another account", "PERMISSION_DENIED", "account"),
        ("of no pod", "PERMISSION_DENIED", "no-node"),
        ("of a deleted pod", "UNAUTHENTICATED", "not-authenticated"),
        ("no token", "UNAUTHENTICATED", "no-jwt"),
    ],
)
async def test_any_other_token_is_refused_told_and_counted(place: Place, kind: str, status: str, reason: str) -> None:
    node = place.nodes[0]
    token = token_of(place, kind, node)

    await place.refused(place.agent(node, token), status, reason)


def token_of(place: Place, kind: str, node: str) -> str:
    admin = place.cluster.api.admin
    match kind:
        case "of another audience":
            return place.token(node, audience="https://kubernetes.default.svc")
        case "expired":
            past = time.time() - 3600
            return place.forged(
                place.token(node), place.cluster.folder / "accounts.key", exp=past, iat=past - 9, nbf=past
            )
        case "forged":
            openssl("genrsa", "-out", place.folder / "forged.key", "2048")
            return place.forged(place.token(node), place.folder / "forged.key")
        case "of another account":
            return place.token(node, account="deltaplane-controlplane")
        case "of no pod":
            return admin.create_token(NAME, NAMESPACE, 3600, audience=AUDIENCE)
        case "of a deleted pod":
            token = place.token(node)
            name = place.pods.pop()["metadata"]["name"]
            admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{name}", {"gracePeriodSeconds": 0})
            return token
        case _:
            return "none"


async def test_a_mended_token_is_shown_at_once(place: Place) -> None:
    """The agent would wait for hours."""
    node = place.nodes[0]
    agent = place.agent(node, place.token(node, audience="https://kubernetes.default.svc"), "--patient")
    async with started(agent):
        (program,) = agent.programs
        await program.until(lambda: any("UNAUTHENTICATED" in line for line in program.lines))
        (file,) = place.folder.glob(f"{node}-*")
        file.write_text(place.token(node))
        await agent.until(lambda state: state.services > 0)
        (told,) = (line for line in program.lines if "own files changed" in line)
        assert "token-file" in told


async def test_certificates_and_their_authority_change_and_no_stream_ends(place: Place, objects: Rest) -> None:
    one, other = place.nodes[:2]
    first = place.agent(one, place.token(one))
    async with started(first):
        await first.until(lambda state: state.services > 0)
        before = first.states[0].services
        (place.folder / "new").mkdir()
        place.authority = Authority(place.folder / "new")
        place.server.replace(place.authority.sign("server", f"IP:{place.host.v4}"))

        late = place.agent(other, place.token(other))  # it believes the new authority alone
        async with started(late):
            await late.until(lambda state: state.services > 0)
        objects.apply(service("rotated", [port(80)]))
        await first.until(lambda state: state.services > before)
        assert [state.connects for state in first.states] == [1]


async def test_a_restart_of_the_api_server_keeps_no_known_agent_away(place: Place) -> None:
    node = place.nodes[0]
    token = place.token(node)
    async with started(first := place.agent(node, token)):
        await first.until(lambda state: state.services > 0)
    await asyncio.to_thread(place.cluster.api.stop)
    try:
        async with started(second := place.agent(node, token)):
            await second.until(lambda state: state.services > 0)
        await place.refused(place.agent(node, place.forged(token, place.cluster.folder / "accounts.key", jti="x")),
                            "UNAVAILABLE", "unanswered")  # fmt: skip
    finally:
        await asyncio.to_thread(place.cluster.api.start)


async def test_an_agents_token_asks_when_an_address_is_gone_and_nothing_else(place: Place) -> None:
    token, wait = place.token(place.nodes[0]), ASK + "WaitApplied"
    gone = '{"removed_address": "10.180.9.9", "timeout_seconds": 0.1}'

    said = await place.grpcurl("-d", gone, wait, token=token, proto=True)
    assert '"done": true' in said, said
    for words in (("-d", '{"revision": {}}', wait), (ASK + "GetStatus",)):
        assert "PermissionDenied" in await place.grpcurl(*words, token=token, proto=True)
    assert "PermissionDenied" in await place.grpcurl("-d", gone, wait, token=place.account(""), proto=True)


async def test_inspection_needs_the_right_to_it_and_the_brake_another(place: Place) -> None:
    inspector, operator = place.account("deltaplane-inspector"), place.account("deltaplane-operator")

    assert "head_rev" in await place.grpcurl(ASK + "GetStatus", token=inspector)
    assert "head_rev" in await place.grpcurl(ASK + "ListNodes", token=inspector)
    assert "SERVING" in await place.grpcurl("grpc.health.v1.Health/Check", token=inspector)
    denied = await place.grpcurl(ASK + "ReleaseBrake", token=inspector)
    assert "Code: PermissionDenied" in denied
    assert "may not update brakes.deltaplane.dev" in denied
    assert "{" in await place.grpcurl(ASK + "ReleaseBrake", token=operator)


@pytest.mark.parametrize("words", ["list", ASK + "GetStatus", "grpc.health.v1.Health/Check"])
async def test_who_has_no_right_to_ask_learns_nothing(place: Place, words: str) -> None:
    for token, status in (("", "Unauthenticated"), (place.account(""), "PermissionDenied"),
                          (place.token(place.nodes[0]), "PermissionDenied")):  # fmt: skip
        said = await place.grpcurl(words, token=token)
        assert status in said
        assert "head_rev" not in said
        assert "SERVING" not in said
    assert await place.count("right") >= 2


async def test_the_page_shows_what_its_reader_may_inspect_and_nobody_else_anything(place: Place) -> None:
    inspector, nobody = place.account("deltaplane-inspector"), place.account("")

    assert "<title>Deltaplane</title>" in await place.page("/")
    for path in ("/api/live", "/api/services", "/api/service?name=default/kubernetes"):
        assert (await place.page(path)).endswith("401")
        refused = await place.page(path, nobody)
        assert refused.endswith("403")
        assert "deltaplane.dev: grant it by a role" in refused
    assert "Service default/kubernetes" in await place.page("/api/service?name=default/kubernetes", inspector)
    stream = await place.page("/api/live", inspector)
    assert stream.startswith("event: whole\ndata: {")
    assert "event: nodes\ndata: {" in stream
    assert inspector not in "\n".join(place.plane.lines)


PROBE = f"""
import grpc
from deltaplane.v1 import inspection_pb2, inspection_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
channel = grpc.insecure_channel("127.0.0.1:{HEALTH}")
print(health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=20))
try:
    inspection_pb2_grpc.InspectionServiceStub(channel).GetStatus(inspection_pb2.GetStatusRequest(), timeout=20)
except grpc.RpcError as error:
    print(error.code())
"""


async def test_probes_ask_for_health_at_an_address_of_its_own_and_nothing_else_answers_there(place: Place) -> None:
    probe = Program("-c", PROBE, space=place.host.space)
    async with started(probe), asyncio.timeout(60), probe.news:
        await probe.news.wait_for(lambda: not probe.running)
    assert [line for line in probe.lines if line] == ["status: SERVING", "StatusCode.UNIMPLEMENTED"]


def arguments(kind: str, name: str, **replaced: str) -> list[str]:
    """Those of the manifests, with other places."""
    found: list[str] = container(kind, name)["args"]
    for there, here in replaced.items():
        found = [each.replace(PLACES[there], here) for each in found]
    return found


PLACES = {
    "namespace": "$(NAMESPACE)", "ca": "/etc/deltaplane/ca", "token": "/var/run/secrets/deltaplane/token",
    "state": "/var/lib/deltaplane/$(CLUSTER)/$(NODE_NAME)", "server": "$(DELTAPLANE_SERVER)",
    "run": "/run/deltaplane", "node": "$(NODE_NAME)", "host": "$(HOST_IP)", "cidr": "$(CLUSTER_CIDR)",
}  # fmt: skip


OWN = (("Secret", "v1", SECRET), ("ConfigMap", "v1", CONFIG_MAP), ("Lease", "coordination.k8s.io/v1", LEASE))
OWN_FLAGS = ("--certificates=own", "--certificate-names=", "--certificate-namespace=")


async def with_the_script(cluster: Cluster, folder: Path, flags: list[str]) -> list[str]:
    """The control plane's arguments with the script's certificates, whose CA is in the file that the agent has."""
    host = cluster.fabric.controlplane
    run(host.space, str(REPOSITORY / "deploy" / "make-certificates"), str(folder), host.v6)
    pair = (f"--tls-cert-file={folder}/tls.crt", f"--tls-private-key-file={folder}/tls.key")
    return [*(flag for flag in flags if not flag.startswith(OWN_FLAGS)), *pair]


async def with_its_own(cluster: Cluster, folder: Path, flags: list[str]) -> list[str]:
    """As they are, where there is no CA yet: not what other tests have published either."""
    for kind, version, name in OWN:
        metadata = {"name": name, "namespace": NAMESPACE}
        cluster.api.admin.delete({"apiVersion": version, "kind": kind, "metadata": metadata})
    return flags


def published(cluster: Cluster, file: Path) -> None:
    """Waits for what agents believe, as a kubelet does before it starts the agent's pod."""
    deadline = time.monotonic() + 60
    while not file.exists() and time.monotonic() < deadline:
        with suppress(Refused):
            file.write_text(cluster.api.admin.get("ConfigMap", CONFIG_MAP, NAMESPACE)["data"][FILE])
        time.sleep(0.1)


@pytest.mark.parametrize("certificates", [with_the_script, with_its_own])
async def test_both_programs_run_as_the_manifests_say(
    cluster: Cluster, objects: Rest, tmp_path: Path, certificates: Callable[..., Awaitable[list[str]]]
) -> None:
    host, node = cluster.fabric.controlplane, cluster.fabric.nodes[0]
    delete_tables([node.space])
    place = Place(cluster, tmp_path)
    (tmp_path / "token").write_text(place.token(node.name))
    address = objects.apply(service("web", [port(80)]))["spec"]["clusterIP"]
    pki = tmp_path / "pki"
    pki.mkdir()
    where = str(tmp_path)
    served = arguments("DaemonSet", "deltaplane-controlplane", host=host.v6, namespace=NAMESPACE)
    served = await certificates(cluster, pki, served)
    wanted = arguments(
        "DaemonSet", "deltaplane-agent", ca=str(pki), token=f"{where}/token", state=f"{where}/state",
        run=str(where), server=f"[{host.v6}]:50051", node=node.name, host=node.v4[0], cidr=CLUSTER_CIDRS[0],
    )  # fmt: skip
    plane = Program("-c", COMMAND, *served, f"--kubeconfig={cluster.kubeconfig}", space=host.space)
    agent = Program("-c", COMMAND, *wanted, *LEAVE_THE_MACHINE, space=node.space)
    async with started(plane):
        await asyncio.to_thread(published, cluster, pki / FILE)
        async with started(agent):
            await agent.until(lambda: any("kernel has the whole state" in line for line in agent.lines))
            assert any("agent connected" in line and node.name in line for line in plane.lines)
            assert address in await asyncio.to_thread(run, node.space, "nft", "list", "table", "ip", "deltaplane")
            assert not any("plain text" in line for line in (*plane.lines, *agent.lines))
    delete_tables([node.space])
    cluster.api.admin.call("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/{place.pods[0]['metadata']['name']}")
